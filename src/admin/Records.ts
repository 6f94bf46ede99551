import type { IncomingRecord } from "../infra/kafka/KafkaRecord.js"
import * as Letters from "../repair/Letter.js"
import type { Record } from "./api/Fields.js"

/** The most bytes of a key, a value or a header that an answer has: in a list, and for one record. */
export const inList = 4 * 1024
export const whole = 64 * 1024

/** The most headers of a record in an answer. */
const mostHeaders = 50

/** Bytes for the page, at most `most` of them: as text too where they are printable UTF-8. */
export const bytesOf = (bytes: Buffer, most: number) => {
  const part = bytes.subarray(0, most)
  const cut = part.length < bytes.length
  // a cut may be inside of a character, which has up to four bytes
  const text = [0, 1, 2, 3].slice(0, cut ? 4 : 1).reduce<string | undefined>(
    (found, less) => found ?? Letters.textOf(part.subarray(0, part.length - less)),
    undefined
  )
  return { bytes: bytes.length, text: text ?? null, hex: part.toString("hex"), cut }
}

const nullable = (bytes: Buffer | null, most: number) => bytes === null ? null : bytesOf(bytes, most)

/** A record of a topic for the page. */
export const recordOf = (topic: string, partition: number, record: IncomingRecord, most: number): Record => ({
  topic,
  partition,
  offset: record.offset,
  at: Number(record.timestamp) < 0 ? null : new Date(Number(record.timestamp)),
  key: nullable(record.key, most),
  value: nullable(record.value, most),
  headers: Object.entries(record.headers ?? {}).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).map((one) => ({
      name,
      value: bytesOf(Buffer.from(one ?? ""), most)
    }))
  ).slice(0, mostHeaders),
  unread: record.unread?.reason ?? null
})
