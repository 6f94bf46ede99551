import { createHash } from "node:crypto"
import type { BatchContext, Message } from "../KafkaRecord.js"

/** That of a batch about which nothing is certain. */
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

/** A record that stands for something else. */
const stand = (offset: number, batchContext: BatchContext): Message => ({
  magicByte: 2,
  attributes: 0,
  timestamp: batchContext.maxTimestamp,
  offset: String(offset),
  key: null,
  value: null,
  headers: {},
  isControlRecord: false,
  batchContext
})

/** Offsets without a record, which were compacted away: nothing comes of them, but reading goes on behind them. */
export const passed = (last: number, context: BatchContext): Message => ({
  ...stand(last, context),
  isControlRecord: true
})

/** Offsets whose records cannot be read: a record at the first of them that says so, and reading goes on behind them. */
export const parked = (
  from: number,
  last: number,
  context: BatchContext,
  batch: Buffer,
  why: string
): Array<Message> => {
  const unread = {
    reason: `${from === last ? `offset ${from}` : `offsets ${from} to ${last}`} cannot be read: ${why}`,
    bytes: batch.length,
    sha256: createHash("sha256").update(batch).digest("hex")
  }
  const stub = { ...stand(from, context), unread }
  return from === last ? [stub] : [stub, passed(last, context)]
}
