import { createHash } from "node:crypto"
import type { IncomingHeaders } from "../KafkaRecord.js"
import { Corrupt } from "./Corrupt.js"
import { addHeader } from "./KafkaHeaders.js"
import type { PartsReader } from "./KafkaParts.js"

/** Bytes that are kept of a large record: of its key, of its value, and of all its headers. */
export const keptBytes = 64 * 1024

const broken = (reason: string) => new Corrupt({ reason })

/**
 * Reads key, value and headers of a record that has `left` bytes left, and keeps the beginning of each. Yields when the time
 * is up.
 */
export async function* readFields(from: PartsReader, left: number, mostHeaders: number) {
  const length = left
  const number = async () => {
    while (from.there < Math.min(5, left)) if (!await from.more()) throw broken("the records end early")
    const at = from.at
    const value = from.varint(Math.min(from.bytes.length, at + left))
    left -= from.at - at
    return value
  }
  /** Reads a field, and returns its beginning. */
  async function* field(bytes: number, keep: number, see: (piece: Buffer) => void = () => {}) {
    if (bytes === -1) return null
    if (bytes < -1 || bytes > left) throw broken("a field is longer than its record")
    left -= bytes
    const begin: Array<Buffer> = []
    let there = 0
    for await (const piece of from.pieces(bytes)) {
      if (piece === undefined) {
        yield
        continue
      }
      see(piece)
      if (there < keep) {
        // a copy, because the part is freed
        begin.push(Buffer.from(piece.subarray(0, keep - there)))
        there += begin.at(-1)!.length
      }
    }
    return Buffer.concat(begin)
  }

  const keyBytes = await number()
  const key = yield* field(keyBytes, keptBytes)
  const valueBytes = await number()
  const hash = createHash("sha256")
  const value = yield* field(valueBytes, keptBytes, (piece) => hash.update(piece))
  const count = await number()
  if (count < 0 || count * 2 > left) throw broken("a record has a wrong number of headers")
  const headers: IncomingHeaders = {}
  let room = keptBytes
  for (let n = 0; n < Math.min(count, mostHeaders); n++) {
    const name = yield* field(await number(), room)
    if (name === null) throw broken("a header has no name")
    const value = yield* field(await number(), room)
    room -= name.length + (value?.length ?? 0)
    if (room <= 0) break
    addHeader(headers, name.toString(), value)
  }
  yield* field(left, 0)
  const where = valueBytes > keptBytes ? "value" : keyBytes > keptBytes ? "key" : "headers"
  return {
    key,
    value,
    headers,
    unread: {
      reason: `record is too large to be read: ${length} bytes, with most of them in its ${where}`,
      bytes: Math.max(0, valueBytes),
      sha256: hash.digest("hex")
    }
  }
}
