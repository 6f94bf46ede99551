import { assert, it } from "@effect/vitest"
import { Partitioners } from "kafkajs"
import { randomBytes } from "node:crypto"
import { createRequire } from "node:module"
import { afterEach, beforeEach, vi } from "vitest"
import { javaCompatible } from "../../../../src/infra/kafka/KafkaPartitioner.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import * as Patches from "../../../../src/infra/kafka/patches/Patches.js"
import { patch } from "../../../../src/infra/kafka/patches/RecordEncoder.js"
import * as RecordTime from "../../../../src/infra/kafka/RecordTime.js"
import { copy } from "../../../harness/StockKafkajs.js"
import { contract } from "./Library.js"

Patches.install()

type Request = { readonly encode: () => Promise<{ readonly buffer: Buffer }> }
type Produce = {
  readonly protocol: (_: { readonly version: number }) => (args: object) => { readonly request: Request }
}

const produce = (load: Load) => load("kafkajs/src/protocol/requests/produce") as Produce

const require = createRequire(import.meta.url)
const ours = produce(require)
/** The encoder of kafkajs. */
const theirs = copy()("kafkajs/src/protocol/requests/produce/v7/request") as (args: object) => Request

const request = (messages: ReadonlyArray<object>, more: object = {}) => ({
  acks: -1,
  timeout: 30_000,
  compression: 0,
  producerId: 4_294_967_299n,
  producerEpoch: 7,
  topicData: [
    {
      topic: "payment",
      partitions: [{ partition: 3, firstSequence: 41, messages }, { partition: 0, firstSequence: 0, messages }]
    }
  ],
  ...more
})

const bytesOf = async (request: Request) => (await request.encode()).buffer.toString("hex")

/** The time of records: earlier tests of this process may have measured a database's. */
const followDate = () => RecordTime.follow(Date.now(), performance.now())

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date", "performance"], now: 1_800_000_000_123 })
  followDate()
})
afterEach(() => {
  vi.useRealTimers()
  followDate()
})

const records = Array.from({ length: 300 }, (_, i) => ({
  key: i % 7 === 0 ? null : String(2 ** i),
  value: i % 11 === 0 ? null : i % 5 === 0 ? randomBytes(i * 90) : `{"ä":"${"x".repeat(i)}"}`,
  headers: i % 3 === 0
    ? undefined
    : { "event-id": String(i), "content-type": "application/json", "ü": ["1", Buffer.from([0, 255])], empty: "" }
}))

contract(
  "a header without a value cannot be written",
  patch,
  { stock: "ERR_INVALID_ARG_TYPE", patched: "written" },
  (load) =>
    produce(load).protocol({ version: 7 })(request([{ key: "1", value: "2", headers: { empty: null } }])).request
      .encode().then(() => "written", ({ code }: { readonly code: string }) => code)
)

contract(
  "each record and each header takes a buffer",
  patch,
  { stock: "more than 400 buffers", patched: "less than 20 buffers" },
  async (load) => {
    const { encode } = produce(load).protocol({ version: 7 })(
      request(Array.from({ length: 100 }, () => ({ key: "1", value: "2", headers: { a: "1", b: "2", c: "3" } })))
    ).request
    const spies = [vi.spyOn(Buffer, "alloc"), vi.spyOn(Buffer, "allocUnsafe")]
    await encode()
    const buffers = spies.reduce((sum, { mock }) => sum + mock.calls.length, 0)
    spies.forEach((spy) => spy.mockRestore())
    return buffers > 400 ? "more than 400 buffers" : buffers < 20 ? "less than 20 buffers" : `${buffers} buffers`
  }
)

it("writes the bytes that kafkajs writes", async () => {
  for (const more of [{}, { transactionalId: "some-id" }, { producerId: -1, producerEpoch: -1 }]) {
    const args = request(records, more)
    assert.strictEqual(await bytesOf(ours.protocol({ version: 7 })(args).request), await bytesOf(theirs(args)))
  }
})

it("kafkajs encodes records with a time of their own", async () => {
  const args = request([{ key: "1", value: "2", timestamp: "1700000000000" }, { key: "1", value: "2" }])
  assert.strictEqual(await bytesOf(ours.protocol({ version: 7 })(args).request), await bytesOf(theirs(args)))
})

it("the partition of a key is the one that kafkajs and Java choose", () => {
  const partitionMetadata = Array.from({ length: 12 }, (_, partitionId) => ({
    partitionErrorCode: 0,
    partitionId,
    leader: 1,
    replicas: [1],
    isr: [1]
  }))
  const [mine, standard] = [javaCompatible(), Partitioners.DefaultPartitioner()]
  const keys = [
    "",
    "9007199254740993",
    ...Array.from({ length: 2_000 }, (_, i) => String(i)),
    ...Array.from({ length: 2_000 }, (_, i) => randomBytes(i % 23))
  ]
  for (const key of keys) {
    const args = { topic: "payment", partitionMetadata, message: { key, value: "" } }
    assert.strictEqual(mine(args), standard(args), `key ${key.toString("hex" as never)}`)
  }
})
