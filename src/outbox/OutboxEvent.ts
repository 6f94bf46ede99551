/** An event for the relay to send. */
export interface OutboxEvent {
  readonly id: string
  readonly topic: string
  /** The record key: the order id in decimal. */
  readonly key: string
  readonly payload: string
  readonly traceparent: string | null
  /** Header `payment-reason` of the record; null or undefined: the record has none. */
  readonly reason?: string | null
  /** Generation of the topic when the payment was created; it defines the number of partitions for the key: see `Spreads`. */
  readonly generation: number
}

/** Events that one worker leases, until the lease ends by the database's clock. */
export interface Claim {
  /** Fences every later statement: a worker that takes the events over has another token. */
  readonly token: string
  readonly events: ReadonlyArray<OutboxEvent>
}
