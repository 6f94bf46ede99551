/** Why a payment failed that no call refused: header `payment-reason` of its event. */
export type Reason = "expired"

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
  /** Absent without a collector. */
  readonly waited?: Waited
}

/** How an event has waited in the outbox. Only traces read it. */
export interface Waited {
  /** When the event was committed, in nanoseconds of the epoch. */
  readonly since: bigint
  /** Name of the last attempt to send it, when that ended without an answer: the record may be on the topic. */
  readonly attempt: string | undefined
}

/** Events that one worker leases, until the lease ends by the database's clock. */
export interface Claim {
  /** Fences every later statement: a worker that takes the events over has another token. */
  readonly token: string
  readonly events: ReadonlyArray<OutboxEvent>
}
