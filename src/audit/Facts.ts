import type { PaymentStatus } from "../domain/Payment.js"

/** An idempotency key, as far as it is remembered: 53 bits of its digest. Equal keys have equal ones. */
export type KeyDigest = number

/** Seconds of the epoch, whole. */
export type Seconds = number

/** Where a record stands on its topic. */
export interface Place {
  readonly partition: number
  readonly offset: number
}

/** An inventory record with a status that creates a payment. */
export interface AcceptedRecord extends Place {
  readonly key: KeyDigest
  /** Before the offset that the consumer group had committed. */
  readonly read: boolean
  /** The payment of another order has its idempotency key: no payment was to be created. */
  readonly keyTaken: boolean
}

export interface PaymentRow {
  readonly status: PaymentStatus
  readonly createdAt: Seconds
  readonly updatedAt: Seconds
}

export type EventState = "WAIT" | "DONE" | "DEAD"

export interface EventRow {
  readonly id: number
  readonly state: EventState
  readonly createdAt: Seconds
  readonly key: KeyDigest
  /** The transition; none when the payload cannot be read. */
  readonly says: PaymentStatus | undefined
  /** The payload is, byte for byte, what a record has to be. */
  readonly exact: boolean
  /** Came from the service before this one: how its record looked is not known. */
  readonly adopted: boolean
  /** `DONE` before the end of the topic was read, and meant for that topic: its record has to be there. */
  readonly due: boolean
}

/** A record of topic `payment`. */
export interface TopicRecord extends Place {
  readonly at: Seconds
  readonly key: KeyDigest
  readonly says: PaymentStatus | undefined
  readonly exact: boolean
  /** The record key is the order id in decimal. */
  readonly keyed: boolean
}

/** All that is known of one order. Events by id, records by partition and offset. */
export interface OrderFacts {
  readonly orderId: bigint
  readonly accepted: ReadonlyArray<AcceptedRecord>
  readonly payment: PaymentRow | undefined
  readonly events: ReadonlyArray<EventRow>
  readonly records: ReadonlyArray<TopicRecord>
}

/** How far the sources reach back. */
export interface Horizon {
  /** What was sent at this time or later is still on topic `payment`, and was read. */
  readonly topicFrom: Seconds
  /** Events that were `DONE` before this time may have been deleted. */
  readonly prunedBefore: Seconds
}
