import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { createRequire } from "node:module"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Zlib from "node:zlib"
import { inject } from "vitest"
import * as KafkaOffsets from "../../../../src/infra/kafka/KafkaOffsets.js"
import type { IncomingRecord } from "../../../../src/infra/kafka/KafkaRecord.js"
import * as KafkaScan from "../../../../src/infra/kafka/KafkaScan.js"
import * as KafkaTail from "../../../../src/infra/kafka/KafkaTail.js"
import { patch } from "../../../../src/infra/kafka/patches/FetchDecoder.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { eventually } from "../../../harness/Eventually.js"
import { freshTopic, kafka, read } from "../../../harness/KafkaTest.js"
import type { Head } from "../../../harness/RecordBatch.js"
import * as RecordBatch from "../../../harness/RecordBatch.js"
import { java } from "../fixtures/JavaBatches.js"
import { contract } from "./Library.js"

interface Decoded {
  readonly responses: ReadonlyArray<
    { readonly partitions: ReadonlyArray<{ readonly messages: ReadonlyArray<IncomingRecord> }> }
  >
}

let topics = 0

/** Decodes the answer to a fetch of partition 0 from offset 0, with these batches. */
const decode = async (load: Load, batches: Buffer, topic = `topic ${topics++}`) => {
  const { protocol } = load("kafkajs/src/protocol/requests/fetch") as {
    readonly protocol: (_: { readonly version: number }) => (args: object) => {
      readonly response: { readonly decode: (bytes: Buffer) => Promise<Decoded> }
    }
  }
  const numbers = (...values: ReadonlyArray<readonly [bytes: 2 | 4 | 8, value: number]>) =>
    Buffer.concat(values.map(([bytes, value]) => {
      const buffer = Buffer.alloc(bytes)
      if (bytes === 8) buffer.writeBigInt64BE(BigInt(value))
      else buffer.writeIntBE(value, 0, bytes)
      return buffer
    }))
  const answer = Buffer.concat([
    // throttle time, error, session, topics
    numbers([4, 0], [2, 0], [4, 0], [4, 1], [2, topic.length]),
    Buffer.from(topic),
    // partitions: number, error, high watermark, last stable offset, first offset, aborted transactions, replica
    numbers([4, 1], [4, 0], [2, 0], [8, 1_000_000], [8, 1_000_000], [8, 0], [4, 0], [4, -1], [4, batches.length]),
    batches
  ])
  const asked = { topics: [{ topic, partitions: [{ partition: 0, fetchOffset: "0", maxBytes: 1 }] }] }
  const { responses } = await protocol({ version: 11 })(asked).response.decode(answer)
  return responses[0]!.partitions[0]!.messages
}

const java2 = (codec: "gzip-2" | "snappy-2" | "lz4-2" | "zstd-2") => Buffer.from(java[codec], "base64")

contract(
  "codecs other than gzip, and a batch that cannot be decoded, stop the consumer",
  patch,
  {
    stock: ["40 records", "KafkaJSNotImplemented", "KafkaJSNotImplemented", "KafkaJSNotImplemented", "Error"],
    patched: ["40 records", "40 records", "40 records", "40 records", "1 records"]
  },
  async (load) => {
    const found: Array<string> = []
    const broken = RecordBatch.batch(Buffer.from("this is no gzip"), { codec: 1, count: 1 })
    for (const batch of [java2("gzip-2"), java2("snappy-2"), java2("lz4-2"), java2("zstd-2"), broken]) {
      const read = await decode(load, batch).then(({ length }) => `${length} records`, ({ name }: Error) => name)
      found.push(read)
    }
    return found
  }
)

contract(
  "a batch that arrives broken is handed out",
  patch,
  { stock: ["marjed", "marked"], patched: [undefined, "marked"] },
  async (load) => {
    const batch = RecordBatch.batch(RecordBatch.records([{ value: Buffer.from("marked") }]), { count: 1 })
    const broken = Buffer.from(batch)
    broken[batch.indexOf("marked") + 3]! ^= 1
    const topic = `topic ${topics++}`
    return [
      (await decode(load, broken, topic))[0]?.value?.toString(),
      (await decode(load, batch, topic))[0]?.value?.toString()
    ]
  }
)

contract(
  "a compressed batch inflates as a whole, whatever its size",
  patch,
  { stock: true, patched: false },
  async (load) => {
    const count = 20
    const value = Buffer.alloc(1_000_000, "a")
    const body = Zlib.gzipSync(RecordBatch.records(Array.from({ length: count }, () => ({ value }))), { level: 1 })
    return (await decode(load, RecordBatch.batch(body, { codec: 1, count }))).length === count
  }
)

contract(
  "the time for the headers of a record grows with the square of their number",
  patch,
  { stock: "much longer than many records with as many headers", patched: "as long" },
  async (load) => {
    /** Least CPU time of three, in milliseconds. */
    const time = async (records: number, each: number) => {
      const headers = Array.from({ length: each }, (_, i) => [`name ${i}`, Buffer.of(1)] as const)
      const body = RecordBatch.records(Array.from({ length: records }, () => ({ value: null, headers })))
      const batch = RecordBatch.batch(body, { count: records })
      const times: Array<number> = []
      for (let n = 0; n < 3; n++) {
        const cpu = process.cpuUsage()
        await decode(load, batch)
        times.push(process.cpuUsage(cpu).user / 1_000)
      }
      return Math.min(...times)
    }
    const many = await time(320, 10)
    const one = await time(1, 3_200)
    // by the square of the number: 320 times as long, and a second; otherwise some milliseconds, which noise may multiply
    return one > 10 * many && one > 100 ? "much longer than many records with as many headers" : "as long"
  }
)

/** The times in the batches are old. */
const forEver = { "retention.ms": "-1" }

/** Writes a batch to partition 0. The broker checks it and stores it unchanged. */
const write = Effect.fnUntraced(function*(topic: string, batch: Buffer) {
  assert.strictEqual(yield* RecordBatch.produce(inject("kafkaBrokers"), topic, 0, batch), 0)
})
const writeBody = (topic: string, body: Buffer, head: Head) => write(topic, RecordBatch.batch(body, head))

const scanAll = Effect.fnUntraced(function*(topic: string) {
  const found: Array<IncomingRecord> = []
  const spans = yield* KafkaOffsets.spans(kafka(), topic, undefined)
  yield* KafkaScan.scan(kafka(), topic, spans, (_, records) => Effect.sync(() => void found.push(...records)))
  return found
})

const small = [{ value: Buffer.from("good") }]
const shown = ({ headers, key, offset, timestamp, value }: IncomingRecord) => ({
  headers: { ...headers },
  key: key?.toString(),
  offset: Number(offset),
  timestamp,
  value: value?.toString()
})

it.scopedLive(
  "batches of the Java client in every codec are read by tail, consumer and scan",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic(forEver)
      const codecs = ["gzip-2", "snappy-2", "lz4-2", "zstd-2"] as const
      for (const codec of codecs) {
        const batch = Buffer.from(java[codec], "base64")
        // the broker gives the offset
        batch.writeBigInt64BE(0n)
        yield* write(topic, batch)
      }
      const followed = yield* read(topic, 160)
      const scanned = yield* scanAll(topic)
      for (const found of [followed, scanned]) {
        assert.deepStrictEqual(found.map(({ offset }) => Number(offset)), Array.from({ length: 160 }, (_, i) => i))
        const first = found.slice(0, 40).map(shown)
        assert.strictEqual(first[39]!.value?.slice(57, 84), "\"order_id\":9007199254741032")
        assert.isUndefined(first[7]!.value)
        assert.isUndefined(first[3]!.key)
        assert.deepStrictEqual(Object.keys(first[5]!.headers), ["traceparent", "null", "twice"])
        assert.deepStrictEqual(first[5]!.headers["twice"], [Buffer.from("1"), Buffer.from("2")])
        codecs.forEach((codec, n) =>
          assert.deepStrictEqual(
            found.slice(n * 40, n * 40 + 40).map((record, i) => ({ ...shown(record), offset: i })),
            first,
            codec
          )
        )
      }
    }),
  60_000
)

it.scopedLive("snappy as librdkafka writes it is read", () =>
  Effect.gen(function*() {
    const topic = yield* freshTopic(forEver)
    const plain = RecordBatch.records([{ value: Buffer.from("abcd".repeat(10)) }])
    const literal = plain.length - 36
    // four letters, and then 36 bytes that stand 4 before
    const snappy = Buffer.concat([
      Buffer.of(plain.length, (literal - 2) << 2),
      plain.subarray(0, literal - 1),
      Buffer.of((35 << 2) | 2, 4, 0),
      Buffer.of(0 << 2),
      plain.subarray(-1)
    ])
    yield* writeBody(topic, snappy, { codec: 2, count: 1 })
    const [record] = yield* read(topic, 1)
    assert.strictEqual(record!.value?.toString(), "abcd".repeat(10))
  }), 60_000)

it.scopedLive(
  "a record that inflates to 120 MB becomes its beginning and its hash; the other records are whole",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic(forEver)
      const bytes = 120_000_000
      const [before, after] = [
        [Buffer.from([0, 0]), RecordBatch.varint(1), RecordBatch.varint(-1)],
        RecordBatch.varint(0)
      ]
      const head = Buffer.concat([...before, RecordBatch.varint(bytes)])
      const bomb = RecordBatch.zstd(
        RecordBatch.records(small),
        Buffer.concat([RecordBatch.varint(head.length + bytes + after.length), head]),
        { byte: 0x61, times: bytes },
        Buffer.concat([after, RecordBatch.records([{ value: Buffer.from("behind"), delta: 2 }])])
      )
      assert.isBelow(bomb.length, 20_000)
      yield* writeBody(topic, bomb, { codec: 4, count: 3 })
      yield* writeBody(topic, RecordBatch.records(small), { count: 1 })
      const delay = monitorEventLoopDelay({ resolution: 5 })
      delay.enable()
      const heap = process.memoryUsage.rss()
      let most = heap
      const timer = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20)
      const [first, large, third, last] = yield* read(topic, 4)
      clearInterval(timer)
      delay.disable()
      assert.deepStrictEqual([first, third, last].map((record) => record!.value?.toString()), [
        "good",
        "behind",
        "good"
      ])
      assert.deepStrictEqual([first, large, third, last].map((record) => record!.offset), ["0", "1", "2", "3"])
      assert.include(large!.unread?.reason, "record is too large")
      assert.strictEqual(large!.unread?.bytes, bytes)
      const hash = createHash("sha256")
      for (let left = bytes; left > 0; left -= 1_000_000) hash.update(Buffer.alloc(1_000_000, "a"))
      assert.strictEqual(large!.unread?.sha256, hash.digest("hex"))
      assert.isBelow(large!.value!.length, 100_000)
      assert.isBelow(most - heap, 100e6)
      assert.isBelow(delay.max / 1e6, 2_000)
    }),
  60_000
)

it.scopedLive(
  "40,000 records of one batch arrive in several parts, complete and in order",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic(forEver)
      const count = 40_000
      const value = Buffer.alloc(120, "x")
      const body = Zlib.gzipSync(RecordBatch.records(Array.from({ length: count }, () => ({ value }))), { level: 1 })
      yield* writeBody(topic, body, { codec: 1, count })
      const sizes: Array<number> = []
      let next = 0
      const spans = yield* KafkaOffsets.spans(kafka(), topic, undefined)
      yield* KafkaScan.scan(kafka(), topic, spans, (_, records) =>
        Effect.sync(() => {
          sizes.push(records.length)
          for (const { offset } of records) assert.strictEqual(Number(offset), next++)
        }))
      assert.strictEqual(next, count)
      assert.isBelow(Math.max(...sizes), 30_000)
    }),
  60_000
)

it.scopedLive(
  "10,000 headers take linear time, and header names like constructor are names",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic(forEver)
      const headers = Array.from({ length: 10_000 }, (_, i) => [`name ${i}`, Buffer.of(1)] as const)
      const odd = [["__proto__", Buffer.of(2)], ["constructor", null], ["__proto__", Buffer.of(3)]] as const
      const records = RecordBatch.records([
        { value: Buffer.from("many"), headers },
        { value: Buffer.from("odd"), headers: odd },
        ...small
      ])
      yield* writeBody(topic, records, { count: 3 })
      const [many, strange, good] = yield* read(topic, 3)
      assert.strictEqual(many!.unread?.reason, "record has too many headers to be read: 10000")
      assert.lengthOf(Object.keys(many!.headers!), 2_000)
      assert.strictEqual(many!.value?.toString(), "many")
      assert.deepStrictEqual(Object.entries(strange!.headers!), [
        ["__proto__", [Buffer.of(2), Buffer.of(3)]],
        ["constructor", null]
      ] as never)
      assert.isUndefined(good!.unread)
    }),
  60_000
)

it.scopedLive("a tail that is read slowly holds a bounded number of records", () =>
  Effect.gen(function*() {
    const topic = yield* freshTopic(forEver)
    const count = 5_000
    yield* writeBody(topic, RecordBatch.records(Array.from({ length: count }, () => small[0]!)), { count })
    const tail = yield* KafkaTail.open({ ...kafka(), topic, from: "beginning" })
    const waiting = eventually()(
      Effect.map(tail.size, (size) => {
        if (size._tag === "None" || size.value < 1_000) throw new Error("not read yet")
        return size.value
      })
    )
    assert.isAtMost(yield* waiting, 1_000)
    for (let i = 0; i < count; i++) assert.strictEqual((yield* tail.take).offset, String(i))
  }), 60_000)

interface Fetch {
  readonly request: { readonly apiName: string }
  readonly response: { readonly decode: (bytes: Buffer) => Promise<unknown> }
}
const pool = createRequire(import.meta.url)("kafkajs/src/network/connectionPool") as {
  readonly prototype: { send: (this: unknown, protocol: Fetch) => Promise<unknown> }
}
/** Changes the first byte of this text in each answer to a fetch. */
const breakAt = (mark: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { send } = pool.prototype
      pool.prototype.send = function(protocol) {
        const decode = (bytes: Buffer) => {
          const broken = Buffer.from(bytes)
          const at = broken.indexOf(mark)
          if (at >= 0) broken[at]! ^= 1
          return protocol.response.decode(broken)
        }
        return send.call(
          this,
          protocol.request.apiName === "Fetch"
            ? { ...protocol, response: { ...protocol.response, decode } }
            : protocol
        )
      }
      return send
    }),
    (send) => Effect.sync(() => void (pool.prototype.send = send))
  )

it.scopedLive(
  "a batch that arrives broken each time becomes one record, and the records after it are read",
  () =>
    Effect.gen(function*() {
      const topic = yield* freshTopic(forEver)
      yield* writeBody(topic, RecordBatch.records(small), { count: 1 })
      const marked = [{ value: Buffer.from("marked") }, { value: Buffer.from("second") }]
      yield* writeBody(topic, RecordBatch.records(marked), { count: 2 })
      yield* writeBody(topic, RecordBatch.records(small), { count: 1 })
      yield* breakAt("marked")
      const shownAll = (records: ReadonlyArray<IncomingRecord>) =>
        records.map(({ offset, unread, value }) => `${offset} ${unread?.reason ?? value?.toString()}`)
      const wanted = ["0 good", "1 offsets 1 to 2 cannot be read: its checksum is wrong", "3 good"]
      assert.deepStrictEqual(shownAll(yield* read(topic, 3)), wanted)
      assert.deepStrictEqual(shownAll(yield* scanAll(topic)), wanted)
    }),
  60_000
)
