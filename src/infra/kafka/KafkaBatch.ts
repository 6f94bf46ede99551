import type { IncomingRecord } from "./KafkaRecord.js"

/** Records of one partition in their order. */
export interface Batch {
  readonly topic: string
  readonly partition: number
  readonly records: ReadonlyArray<IncomingRecord>
  /** False when the consumer stops, or when the group takes the partition away. Then leave the batch. */
  readonly mayContinue: () => boolean
  /** Marks the records up to and including `offset` as done. The consumer commits the offset within a second. */
  readonly resolve: (offset: string) => void
}
