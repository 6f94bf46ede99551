import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Option } from "effect"
import { randomUUID } from "node:crypto"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import { ShardBatches } from "../../../src/outbox/sharded/ShardBatches.js"
import { ShardOwners } from "../../../src/outbox/sharded/ShardOwners.js"
import * as ShardTakeover from "../../../src/outbox/sharded/ShardTakeover.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as Fixtures from "../Fixtures.js"
import {
  claimed,
  count,
  deliver,
  fresh,
  idsOnTopic,
  loseNumber,
  oldRecords,
  ordersOf,
  records,
  shardOptions,
  takeShard,
  TestLayer
} from "./ShardFixtures.js"

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("ShardTakeover", (it) => {
  it.scoped("a batch that was committed and not marked is DONE at the next takeover, and not sent again", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const { batch, ids, outgoing, transactions } = yield* claimed(topic, 5)
      yield* transactions.send(outgoing, batch.number)
      yield* transactions.commit
      assert.strictEqual(yield* count("WAIT"), 5)
      assert.strictEqual(yield* deliver(topic), 0)
      assert.strictEqual(yield* count("DONE"), 5)
      assert.deepStrictEqual(yield* idsOnTopic(topic), ids.sort())
    }))

  it.scoped("a batch that was sent and not committed is sent again, and is read once", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const { batch, ids, outgoing, transactions } = yield* claimed(topic, 5)
      yield* transactions.send(outgoing, batch.number)
      assert.strictEqual(yield* deliver(topic), 5)
      yield* Effect.flip(transactions.commit)
      assert.strictEqual(yield* deliver(topic), 0)
      assert.strictEqual(yield* count("DONE"), 5)
      assert.deepStrictEqual(yield* idsOnTopic(topic), ids.sort())
      assert.isAbove(yield* KafkaTest.size(topic), 5, "nothing was aborted")
    }))

  it.scoped("a new coordinator of the group answers an old number until it acknowledges a write", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      yield* Fixtures.append(yield* ordersOf(0, 3), { topic, status: "CREATED" })
      assert.strictEqual(yield* deliver(topic), 3)
      yield* Fixtures.append(yield* ordersOf(0, 3), { topic, status: "COMPLETED" })
      const owned = yield* takeShard
      const batches = yield* ShardBatches
      const transactions = yield* ShardTakeover.takeOver(owned, shardOptions(topic))
      const batch = Option.getOrThrow(yield* batches.claim(owned, 500))
      yield* transactions.send(batch.events.map(Fixtures.record), batch.number)
      yield* transactions.commit

      let knows = false
      yield* KafkaAnswers.between(async (request, ask) => {
        const answer = await ask()
        if (request === "TxnOffsetCommit") knows = true
        if (request !== "OffsetFetch" || knows) return answer
        const { responses } = answer as { readonly responses: ReadonlyArray<{ readonly partitions: Array<object> }> }
        return {
          responses: responses.map(({ partitions, ...of }) => ({
            ...of,
            partitions: partitions.map((partition) => ({ ...partition, offset: String(batch.number - 1n) }))
          }))
        }
      })
      assert.strictEqual(yield* deliver(topic), 0)
      assert.strictEqual(yield* count("DONE"), 6)
      assert.lengthOf(yield* idsOnTopic(topic), 6)
    }))

  it.scoped("a broker that takes records and answers with an error: they are in no transaction that is committed", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const { batch, ids, outgoing, transactions } = yield* claimed(topic, 5)
      let failed = false
      yield* KafkaAnswers.between(async (request, ask) => {
        const answer = await ask()
        if (request !== "Produce" || failed) return answer
        failed = true
        throw KafkaAnswers.errors.notLeader()
      })
      assert.isFalse((yield* Effect.flip(transactions.send(outgoing, batch.number))).refused)
      assert.isTrue(failed)
      assert.strictEqual(yield* deliver(topic), 5)
      assert.deepStrictEqual(yield* idsOnTopic(topic), ids.sort())
    }))

  it.scoped("a send waits for the markers of the last transaction, and counts no attempt", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const { batch, ids, outgoing, transactions } = yield* claimed(topic, 5)
      const asked: Array<string> = []
      yield* KafkaAnswers.between((request, ask) => {
        asked.push(request)
        const joins = request === "AddPartitionsToTxn" || request === "AddOffsetsToTxn"
        return joins && asked.filter((earlier) => earlier === request).length <= 3
          ? Promise.reject(KafkaAnswers.errors.concurrentTransactions())
          : ask()
      })
      yield* transactions.send(outgoing, batch.number)
      yield* transactions.commit
      assert.lengthOf(asked.filter((request) => request === "Produce"), 1)
      assert.strictEqual(yield* deliver(topic), 0)
      assert.deepStrictEqual(yield* idsOnTopic(topic), ids.sort())
    }))

  it.scoped("a relay without the owner's token changes nothing, nor does a late statement of the owner", () =>
    Effect.gen(function*() {
      yield* fresh
      const owners = yield* ShardOwners
      const batches = yield* ShardBatches
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic()
      yield* Fixtures.append(yield* ordersOf(0, 3), { topic })
      const old = yield* takeShard
      const batch = Option.getOrThrow(yield* batches.claim(old, 1))
      const heir = yield* takeShard
      const late = { ...heir }
      assert.isTrue(yield* owners.refresh(heir))
      assert.notStrictEqual(heir.token, late.token)

      const everything = sql`SELECT event.*, shard.* FROM event, outbox_shard AS shard ORDER BY id, shard`
      const before = JSON.stringify(yield* everything)
      for (const owned of [old, late]) {
        assert.isTrue(Option.isNone(yield* batches.claim(owned, 500)))
        assert.isTrue(Option.isNone(yield* batches.stateOf(owned)))
        assert.isFalse(yield* batches.reconcile(owned, batch.number))
        assert.isFalse(yield* batches.reconcile(owned, batch.number - 1n))
        yield* owners.release(owned)
        assert.isFalse(yield* owners.refresh(owned))
        assert.strictEqual(
          (yield* Effect.flip(ShardTakeover.takeOver(owned, shardOptions(topic))))._tag,
          "ShardLost"
        )
        assert.deepStrictEqual((yield* owners.keep(randomUUID(), [owned])).kept, [])
      }
      assert.strictEqual(JSON.stringify(yield* everything), before)
      assert.lengthOf(Option.getOrThrow(yield* batches.claim(heir, 500)).events, 2)
    }))

  it.scoped("a late mark of a batch that was reconciled marks nothing", () =>
    Effect.gen(function*() {
      yield* fresh
      const batches = yield* ShardBatches
      const topic = yield* KafkaTest.freshTopic()
      const { batch, owned } = yield* claimed(topic, 2)
      const heir = yield* takeShard
      yield* ShardTakeover.takeOver(heir, shardOptions(topic))
      assert.lengthOf((yield* batches.mark(owned, batch)).waited, 0)
      assert.lengthOf(Option.getOrThrow(yield* batches.claim(heir, 500)).events, 2)
      assert.lengthOf((yield* batches.mark(owned, batch)).waited, 0)
      assert.strictEqual(yield* count("WAIT"), 2)
    }))

  it.scoped("the number lost, with nothing open: harmless", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const ids = yield* Fixtures.append(yield* ordersOf(0, 3), { topic })
      assert.strictEqual(yield* deliver(topic), 3)
      yield* loseNumber
      const more = yield* Fixtures.append(yield* ordersOf(0, 3), { topic, status: "COMPLETED" })
      assert.strictEqual(yield* deliver(topic), 3)
      assert.strictEqual(yield* deliver(topic), 0)
      assert.deepStrictEqual(yield* idsOnTopic(topic), [...ids, ...more].sort())
    }))

  for (const onTopic of ["all", "none"] as const) {
    it.scoped(`the number lost, with an open batch: found on the topic, which has ${onTopic} of it`, () =>
      Effect.gen(function*() {
        yield* fresh
        const topic = yield* KafkaTest.freshTopic()
        if (onTopic === "none") yield* oldRecords(topic)
        yield* Effect.scoped(Effect.gen(function*() {
          const { batch, outgoing, transactions } = yield* claimed(topic, 3)
          yield* transactions.send(outgoing, batch.number)
          if (onTopic === "all") yield* transactions.commit
        }))
        yield* loseNumber
        assert.strictEqual(yield* deliver(topic), onTopic === "all" ? 0 : 3)
        assert.strictEqual(yield* count("DONE"), 3)
        const sent = (yield* idsOnTopic(topic)).filter((id) => id !== "undefined")
        assert.lengthOf(sent, 3)
        assert.strictEqual(new Set(sent).size, 3)
      }))
  }

  it.scoped("the number lost, with an open batch: records with its ids and other bodies are not its events", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      yield* oldRecords(topic)
      const { ids } = yield* Effect.scoped(claimed(topic, 3))
      // of the time before the sequence was set back
      yield* Effect.scoped(Effect.gen(function*() {
        const producer = yield* Effect.acquireRelease(
          Effect.sync(() => Kafka.client(KafkaTest.kafka()).producer()),
          (producer) => Effect.promise(() => producer.disconnect())
        )
        yield* Effect.promise(() => producer.connect())
        const messages = ids.map((id) => ({ key: id, value: "another", headers: { "event-id": id } }))
        yield* Effect.promise(() => producer.send({ topic, messages }))
      }))
      yield* loseNumber
      assert.strictEqual(yield* deliver(topic), 3)
      assert.strictEqual(yield* count("DONE"), 3)
      const found = yield* records(topic)
      assert.sameMembers(found.filter(({ value }) => value.startsWith("{")).map(({ id }) => id), [...ids])
    }))
})
