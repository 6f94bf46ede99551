import type { Duration } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"

/** Where the facts about orders are, beside the tables: for the audit, and for the story of an order. */
export interface Sources {
  readonly kafka: KafkaOptions
  /** The group whose committed offsets say which inventory records were processed. */
  readonly groupId: string
  readonly inventoryTopic: string
  readonly dlqTopic: string
  readonly paymentTopic: string
  /** Inventory statuses that create a payment. */
  readonly acceptStatuses: ReadonlyArray<string>
  /** `DONE` events that are older have no row. */
  readonly retention: Duration.Duration
}
