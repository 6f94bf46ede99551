import type { BatchContext, Message } from "../KafkaRecord.js"
import { Corrupt } from "./Corrupt.js"
import { crc32c } from "./Crc32c.js"
import { recall, remember } from "./KafkaBegun.js"
import { decompress } from "./KafkaCodecs.js"
import * as KafkaLegacy from "./KafkaLegacy.js"
import { noContext, skipped, unreadable } from "./KafkaMessage.js"
import { RecordReader } from "./KafkaRecordReader.js"
import type { Room } from "./KafkaRoom.js"

/** Offsets of the fields of a batch of format 2. `length` and `magic` are the same in every format. */
const at = {
  length: 8,
  body: 12,
  magic: 16,
  checksum: 17,
  attributes: 21,
  lastOffsetDelta: 23,
  firstTimestamp: 27,
  maxTimestamp: 35,
  producerId: 43,
  producerEpoch: 51,
  count: 57,
  records: 61
}

/** The bytes that a fetch gave for a partition. */
export interface Fetched {
  readonly topic: string
  readonly partition: number
  /** The offset of the request. Earlier records are left out. */
  readonly from: number
  /** The offset after the last record that may be read. */
  readonly end: number
  readonly bytes: Buffer
}

/** A smaller batch without compression is not remembered: skipping its first records again takes a millisecond. */
const large = 256 * 1024

/**
 * Batches whose checksum was wrong in the last fetch, by topic and partition. A batch that is wrong twice in the same way is
 * wrong on the broker, and did not break on its way.
 */
const suspects = new Map<string, string>()

const readContext = (bytes: Buffer): BatchContext => {
  const attributes = bytes.readInt16BE(at.attributes)
  return {
    firstOffset: String(bytes.readBigInt64BE(0)),
    lastOffsetDelta: bytes.readInt32BE(at.lastOffsetDelta),
    firstTimestamp: String(bytes.readBigInt64BE(at.firstTimestamp)),
    maxTimestamp: String(bytes.readBigInt64BE(at.maxTimestamp)),
    timestampType: (attributes & 8) !== 0 ? 1 : 0,
    producerId: String(bytes.readBigInt64BE(at.producerId)),
    producerEpoch: bytes.readInt16BE(at.producerEpoch),
    inTransaction: (attributes & 0x10) !== 0,
    isControlBatch: (attributes & 0x20) !== 0,
    magicByte: 2
  }
}

/**
 * Decodes the records of a partition and appends them to `out`, until `room` is used up. The next fetch brings the rest.
 *
 * A batch that cannot be decoded becomes one record without a value. Its `unread` names the offsets and the reason.
 */
export const read = async ({ bytes, end, from, partition, topic }: Fetched, out: Array<Message>, room: Room) => {
  const partitionName = `${topic}/${partition}`
  let next = from
  // the last batch may be cut off
  for (let start = 0; start + at.checksum <= bytes.length;) {
    if (room.isFull() || room.isLate()) return
    const length = bytes.readInt32BE(start + at.length)
    const stop = start + at.body + length
    const first = Number(bytes.readBigInt64BE(start))
    const magic = bytes[start + at.magic]!
    if (stop > bytes.length) return
    const batch = bytes.subarray(start, Math.max(stop, start + at.checksum))
    /** First offset of the next batch; -1 when there is none. */
    const following = stop > start && stop + 8 <= bytes.length ? Number(bytes.readBigInt64BE(stop)) : -1
    if (following > first && following <= next) {
      start = stop
      continue
    }
    /** The last offset of the batch: by the next batch, or by its own header when no batch follows. */
    const lastOf = (claimed: number) => Math.max(next, Math.min(following > first ? following - 1 : claimed, end - 1))
    /** Whether the last fetch brought the same bytes. */
    const isSure = (sum: number) => {
      const seen = `${first}:${length}:${sum}`
      const sure = suspects.get(partitionName) === seen
      suspects.delete(partitionName)
      if (!sure) suspects.set(partitionName, seen)
      return sure
    }
    if (length < at.checksum - at.body || (magic === 2 && length < at.records - at.body)) {
      // its end is unknown, so each fetch gives up one offset
      if (isSure(0)) out.push(...unreadable(next, next, noContext, batch, "a batch has a wrong size"))
      return
    }
    if (magic === 2) {
      const claimed = bytes.readInt32BE(start + at.lastOffsetDelta)
      const header = batch.subarray(0, at.records)
      let reader = recall(partitionName, header, next)
      if (reader === undefined) {
        const sum = crc32c(batch.subarray(at.attributes))
        if (sum !== batch.readUInt32BE(at.checksum)) {
          const count = batch.readInt32BE(at.count)
          const last = lastOf(claimed === count - 1 ? first + claimed : next)
          if (isSure(sum)) {
            out.push(
              ...unreadable(Math.min(last, Math.max(first, next)), last, noContext, batch, "its checksum is wrong")
            )
          }
          // it may hold the end of a transaction, and only a fetch from a later offset lists the transactions anew
          return
        }
      }
      const context = readContext(batch)
      if (claimed < 0) {
        out.push(
          ...unreadable(Math.max(first, next), lastOf(first), context, batch, "it has a negative number of offsets")
        )
        return
      }
      // not beyond the end: reading would begin anew there; and at least one offset when no batch follows
      const last = Math.max(Math.min(first + claimed, end - 1), following > first ? 0 : next)
      if (last >= next) {
        const codec = bytes.readInt16BE(start + at.attributes) & 7
        const lives = codec !== 0 || length > large
        const records = batch.subarray(at.records)
        try {
          // a copy, because a reader that is remembered must not keep the whole answer in memory
          reader ??= new RecordReader(
            context,
            batch.readInt32BE(at.count),
            decompress(codec, lives ? Buffer.from(records) : records)
          )
          const ended = await reader.read(next, out, room)
          if (!ended) return lives ? remember(partitionName, { header: Buffer.from(header), reader }) : reader.close()
          if (reader.next <= last) out.push(skipped(last, context))
        } catch (error) {
          reader?.close()
          if (!(error instanceof Corrupt)) throw error
          const begin = Math.max(first, next, reader?.next ?? 0)
          out.push(...unreadable(begin, Math.max(begin, last), context, batch, error.reason))
          return
        }
        next = last + 1
      }
    } else if (magic > 2) {
      const last = lastOf(next)
      out.push(...unreadable(next, last, noContext, batch, `format ${magic} of records is unknown`))
      return
    } else {
      try {
        const messages = await KafkaLegacy.read(batch, next)
        for (const message of messages) {
          out.push(message)
          room.take((message.key?.length ?? 0) + (message.value?.length ?? 0))
        }
        next = Math.max(next, Number(messages.at(-1)?.offset ?? next - 1) + 1)
      } catch (error) {
        if (!(error instanceof Corrupt)) throw error
        // in formats 0 and 1 the batch begins with the last of its offsets
        out.push(...unreadable(next, Math.max(next, first), noContext, batch, error.reason))
        return
      }
    }
    start = stop
  }
}
