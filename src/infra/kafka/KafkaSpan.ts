import type { Share } from "./KafkaAttempt.js"
import type { OutgoingRecord } from "./KafkaRecord.js"

/**
 * Attributes of messaging spans by the OpenTelemetry semantic conventions 1.45
 * (https://opentelemetry.io/docs/specs/semconv/messaging/kafka). Version 1.45 renamed `messaging.system` and
 * `messaging.kafka.offset`; the old names stay beside the new ones for tools that do not know those yet.
 */
export const attributes = (operation: "create" | "send" | "process", topic: string) => ({
  "messaging.system.name": "kafka",
  "messaging.system": "kafka",
  "messaging.operation.type": operation,
  "messaging.operation.name": operation,
  "messaging.destination.name": topic
})

/** A place on a topic. */
export interface Place {
  readonly partition: number
  readonly offset: number
}

/** Attributes of the place of a record. */
export const place = ({ offset, partition }: Place) => ({
  "messaging.destination.partition.id": String(partition),
  "kafka.offset": offset,
  "messaging.kafka.offset": offset
})

/** What a partition has written, as `onWritten` of a producer gives it. */
export type Written = Share

/** Collects the places of records from `onWritten` of a producer. Leaves out those that the broker does not say. */
export const places = () => {
  const found = new Map<OutgoingRecord, Place>()
  const add = ({ offset, partition, records }: Written) => {
    const first = Number(offset || -1)
    if (first >= 0) records.forEach((record, i) => found.set(record, { partition, offset: first + i }))
  }
  return { add, of: (record: OutgoingRecord) => found.get(record) } as const
}
