import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Effect, Fiber, Option } from "effect"
import { ShardBatches } from "../../../src/outbox/sharded/ShardBatches.js"
import * as ShardCount from "../../../src/outbox/sharded/ShardCount.js"
import { ShardOwners } from "../../../src/outbox/sharded/ShardOwners.js"
import * as ShardTakeover from "../../../src/outbox/sharded/ShardTakeover.js"
import { until } from "../../harness/Eventually.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as Fixtures from "../Fixtures.js"
import {
  claimed,
  count,
  deliver,
  fresh,
  idsOnTopic,
  OwnerLayer,
  records,
  serve,
  shardOptions,
  takeShard
} from "./ShardFixtures.js"

layer(OwnerLayer, { timeout: "60 seconds", excludeTestServices: true })("ShardCount", (it) => {
  it.scoped("the number of shards changes under relays: every event once, in order, before and after", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic()
      const orders = Arr.range(1, 60)
      const first = yield* Effect.forkScoped(serve(topic))
      const second = yield* Effect.forkScoped(serve(topic))
      yield* Fixtures.append(orders, { topic })
      for (const shards of [16, 2, 8]) {
        yield* Fixtures.append(orders.map((order) => 100 * shards + order), { topic })
        yield* ShardCount.change(shards, shardOptions(topic))
        const indexes = yield* sql<{ readonly name: string }>`
          SELECT indexname AS name FROM pg_indexes WHERE indexname LIKE 'event_waiting_of_%'
        `
        assert.deepStrictEqual(indexes.map(({ name }) => name), [`event_waiting_of_${shards}_shards`])
        yield* Fixtures.append(orders.map((order) => 100 * shards + order), { topic, status: "COMPLETED" })
        const owned = sql`SELECT FROM outbox_shard WHERE owner IS NOT NULL`
        yield* until(owned, ({ length }) => length === shards)
      }
      yield* Fixtures.append(orders, { topic, status: "COMPLETED" })
      yield* until(count("DONE"), (n) => n === 480)
      yield* Fiber.interruptAll([first, second])
      const found = yield* until(records(topic), ({ length }) => length >= 480)
      assert.lengthOf(found, 480)
      for (const [key, ofOrder] of Object.entries(Arr.groupBy(found, ({ key }) => key))) {
        assert.deepStrictEqual(ofOrder.map(({ value }) => JSON.parse(value).status), ["CREATED", "COMPLETED"], key)
      }
    }))

  it.scoped("a relay that stood still while the number of shards changed commits, marks and claims nothing", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const batches = yield* ShardBatches
      const topic = yield* KafkaTest.freshTopic()
      const { batch, ids, outgoing, owned, transactions } = yield* claimed(topic, 5)
      yield* transactions.send(outgoing, batch.number)
      assert.strictEqual(yield* ShardCount.change(2, shardOptions(topic)), 8)
      const everything = sql`SELECT event.*, shard.* FROM event, outbox_shard AS shard ORDER BY id, shard`
      const before = JSON.stringify(yield* everything)
      assert.isFalse((yield* Effect.flip(transactions.commit)).refused)
      assert.lengthOf((yield* batches.mark(owned, batch)).waited, 0)
      assert.isTrue(Option.isNone(yield* batches.claim(owned, 500)))
      assert.isFalse(yield* batches.reconcile(owned, batch.number))
      assert.strictEqual((yield* Effect.flip(ShardTakeover.takeOver(owned, shardOptions(topic))))._tag, "ShardLost")
      assert.strictEqual(JSON.stringify(yield* everything), before)

      assert.strictEqual(yield* deliver(topic), 5)
      assert.deepStrictEqual(yield* idsOnTopic(topic), ids.sort())
      assert.strictEqual(yield* ShardCount.change(8, shardOptions(topic)), 2)
    }))

  it.scoped("a change of the number of shards without all their tokens changes nothing", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const owners = yield* ShardOwners
      const all = yield* owners.seize
      assert.lengthOf(all, 8)
      const heir = yield* takeShard
      const everything = sql`SELECT * FROM outbox_shard ORDER BY shard`
      const before = JSON.stringify(yield* everything)
      assert.isFalse(yield* owners.replace(all, 2))
      const others = all.filter(({ shard }) => shard !== heir.shard)
      assert.isFalse(yield* owners.replace(others, 2))
      assert.strictEqual(JSON.stringify(yield* everything), before)
      assert.isTrue(yield* owners.replace([heir, ...others], 2))
      assert.lengthOf(yield* everything, 2)
      assert.isFalse(yield* owners.replace([heir, ...others], 2))
    }))
})
