import { createHash } from "node:crypto"
import type { BatchContext, Message, Unread } from "../KafkaRecord.js"

/** The context of a batch that has none, or of which nothing is certain. */
export const noContext: BatchContext = {
  firstOffset: "0",
  lastOffsetDelta: 0,
  firstTimestamp: "-1",
  maxTimestamp: "-1",
  timestampType: 0,
  producerId: "-1",
  producerEpoch: -1,
  inTransaction: false,
  isControlBatch: false,
  magicByte: 2
}

/** A record without key, value and headers. */
export const empty = (offset: number, batchContext: BatchContext): Message => ({
  magicByte: batchContext.magicByte,
  attributes: 0,
  timestamp: batchContext.maxTimestamp,
  offset: String(offset),
  key: null,
  value: null,
  headers: {},
  isControlRecord: false,
  batchContext
})

/** Describes bytes that are left out, by their size and hash. */
export const unread = (reason: string, bytes: Buffer): Unread => ({
  reason,
  bytes: bytes.length,
  sha256: createHash("sha256").update(bytes).digest("hex")
})

/** Offsets that compaction has removed, up to `last`. kafkajs drops the record, and goes on after its offset. */
export const skipped = (last: number, context: BatchContext): Message => ({
  ...empty(last, context),
  isControlRecord: true
})

/**
 * Offsets whose records cannot be decoded. The first offset gets a record with the reason. Reading goes on after the last.
 */
export const unreadable = (
  from: number,
  last: number,
  context: BatchContext,
  batch: Buffer,
  why: string
): Array<Message> => {
  const offsets = from === last ? `offset ${from}` : `offsets ${from} to ${last}`
  const stub = { ...empty(from, context), unread: unread(`${offsets} cannot be read: ${why}`, batch) }
  return from === last ? [stub] : [stub, skipped(last, context)]
}
