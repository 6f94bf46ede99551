import type { KafkaMessage } from "kafkajs"

/** Headers of a record, each once or several times. */
export type IncomingHeaders = NonNullable<KafkaMessage["headers"]>

/** What the reader did not keep, because it is too large or cannot be decoded. */
export interface Unread {
  /** Why, without any of the payload. */
  readonly reason: string
  /** Size in bytes of what was not kept: the value, the whole record where it has too many headers, or the batch. */
  readonly bytes: number
  /** Its SHA-256, in hexadecimal digits. */
  readonly sha256: string
}

/** A record as it was read. */
export interface IncomingRecord extends Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp"> {
  /** Not there when all of the record was read. Where it is, key, value and headers are what was kept: their beginning, or nothing. */
  readonly unread?: Unread
}

/** What the records of a batch have in common; the names are those of kafkajs. */
export interface BatchContext {
  readonly firstOffset: string
  readonly lastOffsetDelta: number
  readonly firstTimestamp: string
  readonly maxTimestamp: string
  /** 1 when the batch has one time, which the broker gave it. */
  readonly timestampType: 0 | 1
  readonly producerId: string
  readonly producerEpoch: number
  readonly inTransaction: boolean
  readonly isControlBatch: boolean
  readonly magicByte: number
}

/** A record as kafkajs wants it. */
export interface Message {
  readonly magicByte: number
  readonly attributes: number
  readonly timestamp: string
  readonly offset: string
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: IncomingHeaders
  isControlRecord: boolean
  readonly batchContext: BatchContext
  readonly unread?: Unread
}
