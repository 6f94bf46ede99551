import { assert, layer } from "@effect/vitest"
import type { Duration } from "effect"
import { Array as Arr, Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import * as KafkaTransactions from "../../../src/infra/kafka/KafkaTransactions.js"
import { until } from "../../harness/Eventually.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import { fresh, idsOnTopic, lease, records, TestLayer } from "./ShardFixtures.js"

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("transactions of the shards", (it) => {
  it.scoped("a producer that is fenced commits nothing", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const options = { ...KafkaTest.kafka(), name: randomUUID(), topic, timeout: lease }
      const record = { topic, key: "1", value: "body", headers: { "event-id": "1" } }
      const first = yield* KafkaTransactions.open(options)
      yield* first.send([record], 1n)
      const second = yield* KafkaTransactions.open(options)
      assert.isFalse((yield* Effect.flip(first.commit)).refused)
      assert.deepStrictEqual(yield* second.committed, Option.none())
      yield* second.send([record], 2n)
      yield* second.commit
      assert.strictEqual((yield* Effect.flip(first.send([record], 3n)))._tag, "TransactionFailed")
      assert.strictEqual((yield* Effect.flip(first.commit))._tag, "TransactionFailed")
      const third = yield* KafkaTransactions.open(options)
      assert.deepStrictEqual(yield* third.committed, Option.some(2n))
      assert.lengthOf(yield* records(topic), 1)
    }))

  it.scoped("a reader of what is committed sees nothing of transactions that were open side by side and aborted", () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const names = Arr.makeBy(6, () => randomUUID())
      const open = (name: string) => KafkaTransactions.open({ ...KafkaTest.kafka(), name, topic, timeout: lease })
      const record = (id: string) => ({ topic, key: "1", value: id, headers: { "event-id": id } })
      const opened = yield* Effect.forEach(names, open)
      for (const [place, producer] of opened.entries()) yield* producer.send([record(`lost ${place}`)], 1n)
      // aborted in the order opposite to that in which they began
      const heirs = yield* Effect.forEach([...names].reverse(), open)
      for (const [place, producer] of heirs.entries()) {
        yield* producer.send([record(`kept ${place}`)], 1n)
        yield* producer.commit
      }
      const found = yield* until(idsOnTopic(topic), ({ length }) => length >= names.length)
      assert.deepStrictEqual(found, names.map((_, place) => `kept ${place}`))
    }))

  it.scoped("a relay that stands still in a transaction holds readers back no longer than its lease", () =>
    Effect.gen(function*() {
      const topic = yield* KafkaTest.freshTopic()
      const open = (timeout: Duration.DurationInput) =>
        KafkaTransactions.open({ ...KafkaTest.kafka(), name: randomUUID(), topic, timeout })
      const record = (id: string) => ({ topic, key: "1", value: id, headers: { "event-id": id } })
      const [still, other] = [yield* open("1 second"), yield* open(lease)]
      yield* still.send([record("lost")], 1n)
      yield* other.send([record("kept")], 1n)
      yield* other.commit
      // brokers look for what took too long every 10 seconds
      assert.deepStrictEqual(yield* until(idsOnTopic(topic), ({ length }) => length > 0), ["kept"])
      assert.strictEqual((yield* Effect.flip(still.commit))._tag, "TransactionFailed")
    }))
})
