import type { BatchContext, IncomingHeaders, Message, Unread } from "../KafkaRecord.js"
import { Corrupt } from "./Corrupt.js"
import type { Parts } from "./KafkaCodecs.js"
import { addHeader } from "./KafkaHeaders.js"
import * as KafkaLargeRecord from "./KafkaLargeRecord.js"
import * as KafkaMessage from "./KafkaMessage.js"
import { PartsReader, passedOver } from "./KafkaParts.js"
import { Room } from "./KafkaRoom.js"

/** The most bytes and headers of a record. A larger record is cut. */
const kept = { bytes: 4 * 1024 * 1024, headers: 2_000 }

const broken = (reason: string) => new Corrupt({ reason })

/**
 * Reads the records of a batch of format 2. Time and memory are proportional to the compressed and the kept bytes.
 *
 * It stops when the room is used up, also inside a large record, and the next call of `read` goes on from there. Fails with
 * `Corrupt` at bytes that are no record. Earlier records are in `out` by then.
 */
export class RecordReader {
  /** The offset after the last record of `out`. */
  next: number
  private out: Array<Message> = []
  private from = 0
  private readonly parts: PartsReader
  private readonly first: number
  private readonly firstTime: number
  private readonly run: AsyncGenerator<void, void>

  constructor(private readonly context: BatchContext, private readonly count: number, parts: Parts) {
    this.parts = new PartsReader(parts, new Room(0, 0))
    this.first = this.next = Number(context.firstOffset)
    this.firstTime = Number(context.firstTimestamp)
    this.run = this.records()
  }

  /** Appends records from offset `from` on to `out`, until the room is used up. Returns whether the batch has ended. */
  async read(from: number, out: Array<Message>, room: Room): Promise<boolean> {
    this.from = from
    this.out = out
    this.parts.room = room
    const { done } = await this.run.next()
    this.out = []
    return done === true
  }

  /** Frees the decompressor. */
  close() {
    this.parts.close()
  }

  private async *records(): AsyncGenerator<void, void> {
    const { parts } = this
    for (let n = 0; n < this.count; n++) {
      if (parts.room.isFull()) yield
      if ((n & 0xff) === 0) {
        if (parts.room.isLate()) yield
        if (parts.room.isLong()) await parts.room.rest()
      }
      // a length takes 5 bytes at most
      while (parts.there < 5) if (!await parts.more()) break
      const length = parts.varint(parts.bytes.length)
      if (length < 0) throw broken("a record has a negative length")
      if (length > kept.bytes) yield* this.large(length)
      else {
        if (parts.there < length) await parts.gather(length)
        this.record(parts.at + length)
      }
    }
    this.close()
  }

  /** Reads the attributes of a record, the time since the first record, and its offset. */
  private head(end: number) {
    const attributes = this.parts.byte(end)
    const delta = this.parts.varlong(end)
    const offset = this.first + this.parts.varint(end)
    // descending offsets would make the reader repeat records for ever
    if (offset < this.next) throw broken("the offsets of the records do not ascend")
    return { attributes, delta, offset }
  }

  /** Reads a record whose bytes are all in `parts`. */
  private record(end: number) {
    const { parts } = this
    const start = parts.at
    const { attributes, delta, offset } = this.head(end)
    if (offset < this.from) {
      parts.at = end
      this.next = offset + 1
      passedOver.bytes += end - start
      return
    }
    const key = parts.slice(parts.varint(end), end)
    const value = parts.slice(parts.varint(end), end)
    const count = parts.varint(end)
    // a header takes at least 2 bytes
    if (count < 0 || count * 2 > end - parts.at) throw broken("a record has a wrong number of headers")
    const headers: IncomingHeaders = {}
    const read = Math.min(count, kept.headers)
    for (let n = 0; n < read; n++) {
      const length = parts.varint(end)
      if (length < 0 || length > end - parts.at) throw broken("a header has no name")
      const name = parts.bytes.toString("utf8", parts.at, parts.at += length)
      addHeader(headers, name, parts.slice(parts.varint(end), end))
    }
    if (read === count && parts.at !== end) throw broken("a record is longer than its fields")
    parts.at = end
    this.next = offset + 1
    parts.room.take(end - start)
    const unread = read === count
      ? undefined
      : KafkaMessage.unread(`record has too many headers to be read: ${count}`, parts.bytes.subarray(start, end))
    this.push(attributes, delta, offset, key, value, headers, unread)
  }

  private push(
    attributes: number,
    delta: number,
    offset: number,
    key: Buffer | null,
    value: Buffer | null,
    headers: IncomingHeaders,
    unread: Unread | undefined
  ) {
    const { context } = this
    const message: Message = {
      magicByte: 2,
      attributes,
      timestamp: context.timestampType === 1 ? context.maxTimestamp : String(this.firstTime + delta),
      offset: String(offset),
      key,
      value,
      headers,
      isControlRecord: context.isControlBatch,
      batchContext: context
    }
    this.out.push(unread === undefined ? message : { ...message, unread })
  }

  /** Reads a record that is too large to keep, part by part. */
  private async *large(length: number): AsyncGenerator<void, void> {
    const { parts } = this
    while (parts.there < 32) if (!await parts.more()) throw broken("the records end early")
    const at = parts.at
    const { attributes, delta, offset } = this.head(at + 32)
    const { headers, key, unread, value } = yield* KafkaLargeRecord.readFields(
      parts,
      length - (parts.at - at),
      kept.headers
    )
    this.next = offset + 1
    if (offset < this.from) return
    parts.room.take(KafkaLargeRecord.keptBytes)
    this.push(attributes, delta, offset, key, value, headers, unread)
  }
}
