import type { IHeaders, KafkaMessage } from "kafkajs"

/** The number of partitions that the keys of some records are spread over. The topic may have more. */
export interface Spread {
  readonly partitions: number
}

/** A record to write. */
export interface OutgoingRecord {
  readonly topic: string
  readonly key: string | Buffer | null
  readonly value: string | Buffer | null
  readonly headers?: IHeaders
  /** The number of partitions that its key is spread over. Default: all partitions of the topic. */
  readonly spread?: Spread
}

/** Headers of a record. A header has one value or several. */
export type IncomingHeaders = NonNullable<KafkaMessage["headers"]>

/** Describes the part of a record that the reader left out: it is too large, or cannot be decoded. */
export interface Unread {
  /** The reason, without any of the payload. */
  readonly reason: string
  /** Size in bytes of the value, of the whole record when it has too many headers, or of the batch. */
  readonly bytes: number
  /** SHA-256 of the same bytes, in hexadecimal digits. */
  readonly sha256: string
}

/** A record from a topic. */
export interface IncomingRecord extends Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp"> {
  /** Absent when the record is whole. Otherwise key, value and headers are cut, or empty. */
  readonly unread?: Unread
}

/** Fields that the records of a batch share, under the names of kafkajs. */
export interface BatchContext {
  readonly firstOffset: string
  readonly lastOffsetDelta: number
  readonly firstTimestamp: string
  readonly maxTimestamp: string
  /** 0: each record has a time from its producer. 1: the broker gave the batch one time. */
  readonly timestampType: 0 | 1
  readonly producerId: string
  readonly producerEpoch: number
  readonly inTransaction: boolean
  readonly isControlBatch: boolean
  readonly magicByte: number
}

/** A record in the form of kafkajs. */
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
