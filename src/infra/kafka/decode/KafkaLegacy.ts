import * as Zlib from "node:zlib"
import type { Message } from "../KafkaRecord.js"
import { Corrupt } from "./Corrupt.js"
import { decompress } from "./KafkaCodecs.js"
import { empty, noContext } from "./KafkaMessage.js"

/** The most bytes of messages that were compressed together. They are decompressed as a whole. */
const limit = 16 * 1024 * 1024

const broken = (reason: string) => new Corrupt({ reason })

interface Entry {
  readonly offset: number
  readonly magic: number
  readonly attributes: number
  readonly timestamp: string
  readonly key: Buffer | null
  readonly value: Buffer | null
}

/** Reads the message at `at`: offset, size, checksum, format, attributes, time (in format 1), key and value. */
const readEntry = (bytes: Buffer, at: number): Entry & { readonly end: number } => {
  if (at + 26 > bytes.length) throw broken("a message ends early")
  const end = at + 12 + bytes.readInt32BE(at + 8)
  if (end < at + 26 || end > bytes.length) throw broken("a message has a wrong size")
  const [magic, attributes] = [bytes[at + 16]!, bytes[at + 17]!]
  if (magic > 1) throw broken(`message format ${magic} is unknown`)
  let i = at + 18
  const timestamp = magic === 1 ? String(bytes.readBigInt64BE(i)) : "-1"
  if (magic === 1) i += 8
  const field = () => {
    if (i + 4 > end) throw broken("a message ends early")
    const length = bytes.readInt32BE(i)
    i += 4
    if (length === -1) return null
    if (length < 0 || length > end - i) throw broken("a field is longer than its message")
    return bytes.subarray(i, i += length)
  }
  return { offset: Number(bytes.readBigInt64BE(at)), magic, attributes, timestamp, key: field(), value: field(), end }
}

const inflate = async (codec: number, value: Buffer): Promise<Buffer> => {
  const found: Array<Buffer> = []
  let size = 0
  const parts = decompress(codec, value)
  for (let part = await parts.next(); part.done !== true; part = await parts.next()) {
    found.push(part.value)
    size += part.value.length
    if (size > limit) {
      await parts.return?.()
      throw broken(`the messages have more than ${limit} bytes after decompression`)
    }
  }
  return Buffer.concat(found)
}

/**
 * Reads a message of format 0 or 1, or the messages that are compressed in its value. Kafka 4 does not write these formats,
 * but delivers messages that are on its disk. `bytes` begin with the offset and end with the message. Leaves out messages
 * before offset `from`. Fails with `Corrupt`.
 */
export const read = async (bytes: Buffer, from: number): Promise<ReadonlyArray<Message>> => {
  const outer = readEntry(bytes, 0)
  if (Zlib.crc32(bytes.subarray(16)) !== bytes.readUInt32BE(12)) throw broken("its checksum is wrong")
  const codec = outer.attributes & 7
  let entries: Array<Entry> = [outer]
  if (codec !== 0) {
    const inner = await inflate(codec, outer.value ?? Buffer.alloc(0))
    entries = []
    for (let at = 0; at < inner.length;) {
      const entry = readEntry(inner, at)
      if ((entry.attributes & 7) !== 0) throw broken("compressed messages hold compressed messages")
      entries.push(entry)
      at = entry.end
    }
    // in format 1 the inner offsets begin at 0, and the outer message has the offset of the last inner one
    const base = outer.magic === 1 && entries.length > 0 ? outer.offset - entries.at(-1)!.offset : 0
    // a time of the broker is in the outer message
    const time = (outer.attributes & 8) !== 0 ? outer.timestamp : undefined
    entries = entries.map((entry) => ({
      ...entry,
      offset: entry.offset + base,
      timestamp: time ?? entry.timestamp
    }))
  }
  return entries.filter(({ offset }) => offset >= from).map(({ attributes, key, magic, offset, timestamp, value }) => ({
    ...empty(offset, { ...noContext, firstOffset: String(offset), magicByte: magic }),
    attributes,
    timestamp,
    key,
    value
  }))
}
