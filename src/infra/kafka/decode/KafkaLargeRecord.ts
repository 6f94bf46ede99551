import { createHash } from "node:crypto"
import type { IncomingHeaders } from "../KafkaRecord.js"
import { Corrupt } from "./Corrupt.js"
import { addHeader } from "./KafkaHeaders.js"
import type { PartsReader } from "./KafkaParts.js"

/** What is kept of a record that is too large to be kept, in bytes of its key, of its value and of all its headers. */
export const keptBytes = 64 * 1024

const broken = (what: string) => new Corrupt({ reason: what })

/**
 * Goes through the fields of a record of which nothing but `left` bytes are still to be read, beginning with the key, and
 * keeps the beginning of each. Yields where the time is up.
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
  /** Goes through a field; answers its beginning. */
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
        // a copy: what it is taken from goes
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
