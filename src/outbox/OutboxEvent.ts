/** An event as the relay sees it: what to send, and where it stands in its order. */
export interface OutboxEvent {
  readonly id: string
  readonly topic: string
  /** The record key: the order id in decimal. */
  readonly key: string
  readonly payload: string
  readonly traceparent: string | null
  /** Tells over how many partitions of the topic the orders were spread when the payment was created: see `Spreads`. */
  readonly generation: number
}

/** Events that one worker holds until the lease runs out by the database's clock. */
export interface Claim {
  /** Fences every later statement: who took the events over has another token. */
  readonly token: string
  readonly events: ReadonlyArray<OutboxEvent>
}
