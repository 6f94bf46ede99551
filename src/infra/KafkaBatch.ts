import type { KafkaMessage } from "kafkajs"

/** Headers of a record, each once or several times. */
export type IncomingHeaders = NonNullable<KafkaMessage["headers"]>

/** A record as it was read. */
export type IncomingRecord = Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp">

/** Records of one partition, in their order. */
export interface Batch {
  readonly topic: string
  readonly partition: number
  readonly records: ReadonlyArray<IncomingRecord>
  /** False when the batch is to be left: the consumer stops, or the partition went to another. */
  readonly mayContinue: () => boolean
  /** These records are done with, up to and with `offset`, which is committed within a second. */
  readonly resolve: (offset: string) => void
}
