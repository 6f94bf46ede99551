import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import * as Zlib from "node:zlib"
import * as KafkaBatches from "../../../../src/infra/kafka/decode/KafkaBatches.js"
import { Room } from "../../../../src/infra/kafka/decode/KafkaRoom.js"
import * as Lz4 from "../../../../src/infra/kafka/decode/Lz4.js"
import * as Snappy from "../../../../src/infra/kafka/decode/Snappy.js"
import * as Zstd from "../../../../src/infra/kafka/decode/Zstd.js"
import type { Message } from "../../../../src/infra/kafka/KafkaRecord.js"
import * as RecordBatch from "../../../harness/RecordBatch.js"
import { java } from "../fixtures/JavaBatches.js"

let topics = 0
/** A partition of its own for each call. */
const read = async (bytes: Buffer, from = 0, room = new Room(1e9, 60_000), topic = `topic ${topics++}`) => {
  const out: Array<Message> = []
  await KafkaBatches.read({ topic, partition: 0, from, end: 1_000_000, bytes }, out, room)
  return out
}
/** Reads like two fetches: a wrong checksum counts when it comes twice. */
const readTwice = async (bytes: Buffer, from = 0) => {
  const topic = `topic ${topics++}`
  const first = await read(bytes, from, undefined, topic)
  const next = first.length === 0 ? from : Number(first.at(-1)!.offset) + 1
  return [...first, ...await read(bytes, next, undefined, topic)]
}
const shown = (messages: ReadonlyArray<Message>) =>
  messages.map(({ isControlRecord, offset, unread, value }) =>
    `${offset} ${isControlRecord ? "control" : unread?.reason ?? value?.toString()}`
  )

const batchOf = (firstOffset: number, ...values: ReadonlyArray<string>) =>
  RecordBatch.batch(RecordBatch.records(values.map((value) => ({ value: Buffer.from(value) }))), {
    count: values.length,
    firstOffset
  })
const collect = (parts: Iterable<Buffer>) => Buffer.concat([...parts])

describe("codecs", () => {
  it("a block of snappy that is larger than the window is decoded in parts", () => {
    // 3,000,000 bytes: four letters, and copies of 64 bytes that stand 4 before
    const copies = Array.from({ length: 46_875 }, () => Buffer.of((63 << 2) | 2, 4, 0))
    const input = Buffer.concat([Buffer.of(0xc4, 0x8d, 0xb7, 0x01, 3 << 2), Buffer.from("abcd"), ...copies])
    assert.isTrue(collect(Snappy.decode(input)).equals(Buffer.alloc(3_000_004, "abcd")))
    // a literal across the parts
    const long = Buffer.alloc(5_000_000, "0123456789")
    const literal = Buffer.concat([Buffer.of(0xc0, 0x96, 0xb1, 0x02, 62 << 2, 0x3f, 0x4b, 0x4c), long])
    const found = collect(Snappy.decode(literal))
    assert.isTrue(found.equals(long))
  })

  it("frames of lz4: linked blocks, checksums, a size, a wrong checksum of the header, several frames", () => {
    const int = (value: number) => {
      const bytes = Buffer.alloc(4)
      bytes.writeInt32LE(value)
      return bytes
    }
    const block = (...bytes: ReadonlyArray<number>) => [int(bytes.length), Buffer.from(bytes)]
    const magic = Buffer.from([0x04, 0x22, 0x4d, 0x18])
    const sums = int(0x12345678)
    const frame = Buffer.concat([
      magic,
      // linked, with checksums of blocks and content, and with a size
      Buffer.of(0b01011100, 0x40),
      Buffer.alloc(8),
      Buffer.of(0xff),
      ...block(0x40, 0x61, 0x62, 0x63, 0x64),
      sums,
      // copies 8 bytes of the block before
      ...block(0x04, 4, 0, 0x10, 0x65),
      sums,
      // stored
      int(0x80000002 | 0),
      Buffer.from("yz"),
      sums,
      int(0),
      sums
    ])
    const skipped = Buffer.concat([Buffer.from([0x52, 0x2a, 0x4d, 0x18]), int(3), Buffer.from("xxx")])
    assert.strictEqual(
      collect(Lz4.decode(Buffer.concat([frame, skipped, frame]))).toString(),
      "abcdabcdabcdeyz".repeat(2)
    )
  })

  it("zstd without node:zlib: a batch of Java, several frames, and a header that claims a window of 128 MiB", () => {
    const batch = Buffer.from(java["zstd-2"], "base64").subarray(61)
    const plain = collect(Zstd.decode(batch))
    assert.strictEqual(plain.length, 6504 - 61)
    const wide = RecordBatch.zstd(Buffer.from("wide"), { byte: 0x61, times: 300_000 })
    wide[5] = 17 << 3
    assert.strictEqual(
      collect(Zstd.decode(Buffer.concat([wide, RecordBatch.zstd(Buffer.from("!"))]))).toString(),
      `wide${"a".repeat(300_000)}!`
    )
  })
})

describe("batches", () => {
  it("formats 0 and 1, plain and compressed, also with the wrong lz4 header checksum of old clients", async () => {
    for (const name of ["gzip-0", "gzip-1", "snappy-0", "snappy-1", "lz4-0", "lz4-1"] as const) {
      const messages = await read(Buffer.from(java[name], "base64"))
      assert.deepStrictEqual(
        messages.map(({ offset }) => Number(offset)),
        Array.from({ length: 40 }, (_, i) => i + 100)
      )
      assert.strictEqual(messages[39]!.value?.toString().slice(57, 84), "\"order_id\":9007199254741032", name)
      assert.isNull(messages[7]!.value)
      assert.strictEqual(messages[1]!.timestamp, name.endsWith("1") ? "1700000000001" : "-1")
      assert.lengthOf(await read(Buffer.from(java[name], "base64"), 130), 10)
    }
  })

  it("a batch whose checksum is wrong twice becomes one record, and the records after it are read", async () => {
    const broken = batchOf(3, "b", "c", "d")
    broken[broken.length - 1]! ^= 1
    const bytes = Buffer.concat([batchOf(0, "a"), broken, batchOf(6, "e")])
    const topic = "suspect"
    assert.deepStrictEqual(shown(await read(bytes, 0, undefined, topic)), ["0 a"])
    const unreadable = "3 offsets 3 to 5 cannot be read: its checksum is wrong"
    assert.deepStrictEqual(shown(await read(bytes, 1, undefined, topic)), [unreadable, "5 control"])
    assert.deepStrictEqual(shown(await read(bytes, 6, undefined, topic)), ["6 e"])
    // a batch that was broken on the way only is read
    const other = Buffer.concat([batchOf(0, "a"), batchOf(3, "b", "c", "d")])
    assert.deepStrictEqual(shown(await read(bytes, 1, undefined, "once")), [])
    assert.deepStrictEqual(shown(await read(other, 1, undefined, "once")), ["3 b", "4 c", "5 d"])
  })

  it("broken compressed data, unknown codecs and formats, and wrong sizes become records, not errors", async () => {
    const gzip = Zlib.gzipSync(RecordBatch.records([{ value: Buffer.from("a") }, { value: Buffer.from("b") }]))
    const cases: Array<[string, Buffer]> = []
    for (const codec of [1, 2, 3, 4, 5, 6, 7]) {
      cases.push([`codec ${codec}`, RecordBatch.batch(Buffer.from("this is no compressed data"), { codec, count: 2 })])
    }
    cases.push(["cut", RecordBatch.batch(gzip.subarray(0, -12), { codec: 1, count: 2 })])
    cases.push(["fewer", RecordBatch.batch(gzip, { codec: 1, count: 3, lastOffsetDelta: 2 })])
    const magic = batchOf(0, "a", "b")
    magic[16] = 3
    cases.push(["format", magic])
    for (const [name, bytes] of cases) {
      const all = Buffer.concat([bytes, batchOf(3, "good")])
      const topic = `case ${name}`
      let [next, found] = [0, [] as Array<Message>]
      for (let n = 0; n < 6 && next < 4; n++) {
        const some = await read(all, next, undefined, topic)
        found = [...found, ...some]
        next = some.length === 0 ? next : Number(some.at(-1)!.offset) + 1
      }
      assert.strictEqual(shown(found).at(-1), "3 good", name)
      assert.isTrue(found.some(({ unread }) => unread !== undefined), name)
    }
    const size = Buffer.concat([batchOf(0, "a"), batchOf(1, "b")])
    size.writeInt32BE(5, 8)
    assert.deepStrictEqual(shown(await readTwice(size)), ["0 offset 0 cannot be read: a batch has a wrong size"])
  })

  it("offsets that were compacted away are skipped, also all offsets of a batch", async () => {
    const records = RecordBatch.records([{ value: Buffer.from("b"), delta: 1 }, { value: Buffer.from("d"), delta: 3 }])
    const bytes = RecordBatch.batch(records, { count: 2, firstOffset: 10, lastOffsetDelta: 5 })
    assert.deepStrictEqual(shown(await read(bytes, 10)), ["11 b", "13 d", "15 control"])
    assert.deepStrictEqual(shown(await read(bytes, 14)), ["15 control"])
    const empty = RecordBatch.batch(Buffer.alloc(0), { count: 0, firstOffset: 16, lastOffsetDelta: 3 })
    assert.deepStrictEqual(shown(await read(empty, 17)), ["19 control"])
  })

  it("records beyond the budget come with the next fetch, and a batch that is cut off waits", async () => {
    const values = Array.from({ length: 50 }, (_, i) => `value ${i}`)
    const records = RecordBatch.records(values.map((value) => ({ value: Buffer.from(value) })))
    const gzip = RecordBatch.batch(Zlib.gzipSync(records), { codec: 1, count: 50 })
    const bytes = Buffer.concat([gzip, batchOf(50, "last"), batchOf(51, "cut off").subarray(0, -1)])
    for (const room of [1, 1_000, 5_000]) {
      const found: Array<Message> = []
      for (let next = 0; next < 51; next = Number(found.at(-1)!.offset) + 1) {
        found.push(...await read(bytes, next, new Room(room, 60_000), `room ${room}`))
      }
      assert.deepStrictEqual(found.map(({ value }) => value?.toString()), [...values, "last"])
    }
    assert.deepStrictEqual(shown(await read(bytes, 49)), ["49 value 49", "50 last"])
    assert.deepStrictEqual(await read(bytes, 51), [])
  })

  it("any bytes: reading ends, accounts for each offset, and moves on", () =>
    fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...Object.values(java)),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        async (base64, changes, signed) => {
          const bytes = Buffer.from(base64, "base64")
          // the broker writes offset and size
          for (const [at, byte] of changes) bytes[16 + at % (bytes.length - 16)] = byte
          if (signed && bytes[16] === 2) RecordBatch.sign(bytes)
          const found = await readTwice(bytes, 100)
          let last = 99
          for (const { offset } of found) {
            assert.isAbove(Number(offset), last)
            last = Number(offset)
          }
          assert.isAbove(found.length, 0)
        }
      ),
      // found once: fzstd fails with a RangeError of its own
      { numRuns: 400, examples: [[java["zstd-2"], [[826862244, 188], [1, 0]], true]] }
    ), 30_000)
})
