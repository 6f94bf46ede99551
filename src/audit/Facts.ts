import type { PaymentStatus } from "../domain/Payment.js"

/** 53 bits of the digest of an idempotency key. Equal keys have equal digests. */
export type KeyDigest = number

/** Whole seconds of the epoch. */
export type Seconds = number

/** Position of a record on its topic. */
export interface Position {
  readonly partition: number
  readonly offset: number
}

/** An inventory record with a status that creates a payment. */
export interface AcceptedRecord extends Position {
  readonly key: KeyDigest
  /** True when the committed offset of the consumer group is behind it. */
  readonly read: boolean
  /** True when the payment of another order has its idempotency key, so that it creates no payment. */
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
  /** The status in the payload; undefined when the payload cannot be read. */
  readonly says: PaymentStatus | undefined
  /** True when the payload has the exact form of a record, byte for byte. */
  readonly exact: boolean
  /** True for an event of the Go service: the exact form of its record is unknown. */
  readonly adopted: boolean
  /** True when it was `DONE` before the end of its topic was read, so its record must be on the topic. */
  readonly due: boolean
  /** True when an operator gave it up: it was marked `DONE` and not sent. */
  readonly skipped: boolean
  /** True when an operator had it announced again. */
  readonly replayed: boolean
}

/** A record of topic `payment`. */
export interface TopicRecord extends Position {
  readonly at: Seconds
  readonly key: KeyDigest
  readonly says: PaymentStatus | undefined
  readonly exact: boolean
  /** True when the record key is the order id in decimal. */
  readonly keyed: boolean
}

/** All facts of one order. Events are sorted by id, records by partition and offset. */
export interface OrderFacts {
  readonly orderId: bigint
  readonly accepted: ReadonlyArray<AcceptedRecord>
  readonly payment: PaymentRow | undefined
  readonly events: ReadonlyArray<EventRow>
  readonly records: ReadonlyArray<TopicRecord>
}

/** How far back topic and table reach. */
export interface Horizon {
  /** Topic `payment` still has all records that were sent at this time or later. */
  readonly topicFrom: Seconds
  /** The pruner may have deleted events that were `DONE` before this time. */
  readonly prunedBefore: Seconds
}
