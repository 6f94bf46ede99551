import type { State } from "../domain/EventState.js"
import type { PaymentStatus } from "../domain/Payment.js"
import type { IncomingRecord } from "../infra/kafka/KafkaRecord.js"
import type { Filed } from "../repair/Filed.js"
import type { Operation } from "../repair/Operations.js"

/** The payment of the order. */
export interface PaymentFact {
  readonly status: PaymentStatus
  readonly created_at: Date
  readonly updated_at: Date
  /** `idempotent_key` of the record that created it; null for a payment of the Go service. */
  readonly inventory_key: string | null
  /** `expired` for a payment that PAYMENT_EXPIRY turned into FAILED; null for all others. */
  readonly reason: string | null
  /** Name of the caller that settled it, `expiry` when no call did; null for a caller without a name. */
  readonly settled_by: string | null
}

/** An event of the order. */
export interface EventFact {
  readonly id: string
  readonly topic: string
  readonly says: string | null
  readonly idempotent_key: string | null
  readonly status: "WAIT" | "DONE" | "DEAD"
  readonly state: State | "done"
  readonly attempts: number
  readonly last_error: string | null
  readonly created_at: Date
  readonly done_at: Date | null
  /** End of the lease or of the back-off. */
  readonly reserved_to: Date | null
  /** Token of the claim that leases it. */
  readonly lease_token: string | null
  /** Delivery `exactly-once`: shard and batch that have it in hand, or had it last. */
  readonly batch: string | null
  readonly shard: number | null
  /** Token of the relay that owns the shard. */
  readonly owner: string | null
  readonly traceparent: string | null
}

/** What the service decided about an inventory record of the order. */
export type Decision =
  | "created the payment"
  | "repeat: the payment has this idempotent_key"
  | "no second payment: the order has one, with another idempotent_key"
  | "no payment: its idempotent_key belongs to another order"
  | "ignored: its status is not in INVENTORY_ACCEPT_STATUSES"
  | "not read yet"
  | "read, and no payment"

/** A record of topic `inventory`. */
export interface RecordFact {
  readonly topic: string
  readonly partition: number
  readonly offset: string
  /** Null for a record without a time. */
  readonly at: Date | null
  readonly record_key: string | null
  readonly idempotent_key: string
  readonly status: string
  readonly traceparent: string | null
  readonly decision: Decision
  /** Records of its partition that the group reads before it; 0 once it is read. */
  readonly before: number
}

/** A record of topic `payment`. */
export interface AnnouncedFact {
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly at: Date | null
  readonly idempotent_key: string | null
  readonly says: string | null
  readonly event_id: string | null
}

/** How far a topic was searched, or why it was not. */
export interface Searched {
  readonly topic: string
  /** Undefined: from the first record. */
  readonly since: Date | undefined
  /** Undefined: to the last record. */
  readonly until: Date | undefined
  /** Why the topic could not be read. */
  readonly problem: string | undefined
}

/** A record of the order as it is on its topic. */
export interface RawRecord {
  readonly topic: string
  readonly partition: number
  readonly record: IncomingRecord
}

/** All that is known of one order. */
export interface Story {
  readonly orderId: bigint
  readonly now: Date
  readonly records: ReadonlyArray<RecordFact>
  readonly payment: PaymentFact | undefined
  /** In their order: CREATED, then the terminal one. */
  readonly events: ReadonlyArray<EventFact>
  readonly announced: ReadonlyArray<AnnouncedFact>
  readonly letters: ReadonlyArray<Filed>
  /** The records behind `records`, `announced` and `letters`. */
  readonly raw: ReadonlyArray<RawRecord>
  readonly operations: ReadonlyArray<Operation>
  readonly searched: Readonly<Record<"inventory" | "payment" | "deadLetters", Searched>>
  /** `DONE` events are deleted after this many milliseconds. */
  readonly retention: number
}

/** The trace id in a `traceparent`. */
export const traceId = (traceparent: string | null) => traceparent?.split("-")[1]
