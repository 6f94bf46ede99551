import { assert, layer } from "@effect/vitest"
import { Array as Arr, Context, Effect, Layer } from "effect"
import { CompressionTypes } from "kafkajs"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import * as Kafka from "../../src/infra/kafka/KafkaClient.js"
import { DeadLetterBox } from "../../src/repair/DeadLetterBox.js"
import type { Filed } from "../../src/repair/Filed.js"
import { replayedFrom } from "../../src/repair/Letter.js"
import { Operations } from "../../src/repair/Operations.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Topics from "../harness/Topics.js"

class Names extends Context.Tag("test/Names")<Names, { readonly dlq: string; readonly inventory: string }>() {}

const TestLayer = Layer.unwrapScoped(Effect.gen(function*() {
  const [dlq, inventory] = yield* Effect.all([KafkaTest.freshTopic(), KafkaTest.freshTopic()], { concurrency: 2 })
  const options = { kafka: KafkaTest.kafka(), dlqTopic: dlq, inventoryTopic: inventory, acceptStatuses: ["COMPLETED"] }
  return Layer.mergeAll(
    DeadLetterBox.Default(options),
    Operations.Default,
    Layer.succeed(Names, { dlq, inventory })
  ).pipe(Layer.provideMerge(PgTest.layer))
}))

const by = () => ({ run: randomUUID(), operator: "night shift", reason: "a fixed producer" })
const asItWas = { value: undefined, again: false, anyway: false }
const pacing = { rate: 100_000, onStep: () => Effect.void }

const all = Effect.gen(function*() {
  const box = yield* DeadLetterBox
  const found: Array<Filed> = []
  yield* box.scan({ error: undefined, since: undefined }, (filed) => Effect.sync(() => void found.push(...filed)))
  return found
})

const key = (i: number) => `00000000-0000-4000-8000-${String(i).padStart(12, "0")}`

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("dead letters", (it) => {
  it.scoped("one replay chooses no more than about 64 MiB of values, and says that there are more", () =>
    Effect.gen(function*() {
      const { inventory } = yield* Names
      const dlq = yield* KafkaTest.freshTopic()
      const value = Buffer.alloc(1024 * 1024, "x")
      // compressed, or the test would write 70 MB
      const producer = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const producer = Kafka.client(KafkaTest.kafka()).producer()
          await producer.connect()
          return producer
        }),
        (producer) => Effect.promise(() => producer.disconnect())
      )
      const send = Effect.promise(() =>
        producer.send({
          topic: dlq,
          compression: CompressionTypes.GZIP,
          messages: Arr.makeBy(7, () => ({ value, partition: 0 }))
        })
      )
      yield* Effect.replicateEffect(send, 10)
      const { filed, more } = yield* Effect.flatMap(
        DeadLetterBox,
        (box) => box.choose({ error: undefined, again: false, letters: 1_000 })
      ).pipe(Effect.provide(DeadLetterBox.Default({
        kafka: KafkaTest.kafka(),
        dlqTopic: dlq,
        inventoryTopic: inventory,
        acceptStatuses: ["COMPLETED"]
      })))
      assert.deepStrictEqual([filed.length, more], [65, true])
    }))

  it.scoped("a hundred replayed with ten mended: each once, also twice at once, with their keys and headers", () =>
    Effect.gen(function*() {
      const { dlq, inventory } = yield* Names
      const box = yield* DeadLetterBox
      const topics = yield* Topics.make(inject("kafkaBrokers"))
      // letter i is malformed where i ends with 0: its order id is text
      const order = (i: number) => i % 10 === 0 ? `"${i}"` : String(i)
      yield* topics.writeAll(
        dlq,
        1,
        Arr.range(1, 100).map((i) => ({
          key: `k${i}`,
          value: `{"idempotent_key":"${key(i)}","order_id":${order(i)},"status":"COMPLETED"}`,
          headers: {
            "dlq-reason": i % 10 === 0 ? "order_id is not a number" : "an old version refused it",
            "dlq-topic": inventory,
            "dlq-partition": "3",
            "dlq-offset": String(i),
            shop: "north"
          }
        }))
      )
      const letters = yield* all
      const plan = yield* box.plan(letters, asItWas)
      assert.lengthOf(plan.letters, 90)
      assert.deepStrictEqual(plan.leftOut.map(({ count, reason }) => [count, reason]), [
        [10, "it would be a dead letter again: order_id is not a number"]
      ])
      const both = yield* Effect.all([box.replay(plan, by(), pacing), box.replay(plan, by(), pacing)], {
        concurrency: 2
      })
      assert.deepStrictEqual([both[0].changed + both[1].changed, both[0].unchanged + both[1].unchanged], [90, 90])

      const open = (yield* all).filter(({ replays }) => replays.count === 0)
      assert.lengthOf(open, 10)
      const foreign = yield* box.plan([open[0]!], {
        ...asItWas,
        value: Buffer.from(`{"idempotent_key":"${randomUUID()}","order_id":10,"status":"COMPLETED"}`)
      })
      assert.match(foreign.leftOut[0]!.reason, /another idempotent_key/)
      const choose = (letters: number, again: boolean) =>
        Effect.map(box.choose({ error: undefined, again, letters }), ({ filed, more }) => [filed.length, more])
      assert.deepStrictEqual(yield* choose(10, false), [10, false])
      assert.deepStrictEqual(yield* choose(9, false), [9, true])
      assert.deepStrictEqual(yield* choose(100, true), [100, false])
      for (const one of open) {
        const mended = Buffer.from(one.letter.value!.toString().replace(/"(\d+)"/, "$1"))
        yield* box.replay(yield* box.plan([one], { ...asItWas, value: mended }), by(), pacing)
      }
      const done = yield* box.plan(yield* all, asItWas)
      assert.deepStrictEqual([done.letters.length, done.leftOut[0]!.count], [0, 100])

      const written = yield* KafkaTest.read(inventory, 100)
      assert.strictEqual(yield* KafkaTest.size(inventory), 100)
      const values = written.map(({ value }) =>
        JSON.parse(String(value)) as { order_id: number; idempotent_key: string }
      )
      assert.sameMembers(values.map((_) => _.order_id), Arr.range(1, 100))
      for (const { idempotent_key, order_id } of values) assert.strictEqual(idempotent_key, key(order_id))
      const first = written.find(({ key }) => String(key) === "k1")!
      assert.deepStrictEqual(
        Object.entries(first.headers ?? {}).map(([name, value]) => [name, String(value)]).sort(),
        [[replayedFrom, `${dlq}/1@0`], ["shop", "north"]]
      )

      const noted = yield* (yield* Operations).last(1_000)
      assert.strictEqual(new Set(noted.map(({ place }) => place)).size, 100)
      assert.deepInclude(noted[0], { action: "dead-letters replay", operator: "night shift", order_id: "100" })
      assert.deepInclude(noted[0]!.after, { mended: true })
    }))

  it.scoped("what has no effect, cannot be whole, or is not there", () =>
    Effect.gen(function*() {
      const { dlq } = yield* Names
      const box = yield* DeadLetterBox
      const topics = yield* Topics.make(inject("kafkaBrokers"))
      const places = yield* topics.write(
        dlq,
        { value: Topics.reserved(1, key(901), "FAILED"), headers: { "dlq-reason": "x" }, partition: 2 },
        { value: Topics.reserved(2, key(902)), headers: { "dlq-reason": "x", "dlq-cut": "value" }, partition: 2 },
        { value: Buffer.from([0xff, 0x00]), partition: 2 }
      )
      const filed = yield* box.at(places)
      const { leftOut, letters } = yield* box.plan(filed, asItWas)
      assert.lengthOf(letters, 0)
      assert.deepStrictEqual(leftOut.map(({ reason }) => reason), [
        "its status \"FAILED\" is not in INVENTORY_ACCEPT_STATUSES",
        "the letter has only the beginning of the value: give the whole value",
        "it would be a dead letter again: value is not JSON"
      ])
      const anyway = yield* box.plan(filed, { ...asItWas, anyway: true })
      assert.deepStrictEqual(anyway.letters.map(({ effect }) => effect), ["has no effect", "has no effect"])
      const missing = yield* Effect.flip(box.at([{ partition: 2, offset: "999" }]))
      assert.match(missing.message, new RegExp(`there is no dead letter at ${dlq}/2@999`))
    }))
})
