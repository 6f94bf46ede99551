import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import {
  Array as Arr,
  Cause,
  Clock,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Option,
  Redacted,
  Schedule,
  Scope
} from "effect"
import { randomUUID } from "node:crypto"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../../../src/infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../../src/infra/kafka/KafkaScan.js"
import * as KafkaTransactions from "../../../src/infra/kafka/KafkaTransactions.js"
import * as KafkaPublisher from "../../../src/outbox/leased/KafkaPublisher.js"
import * as Relay from "../../../src/outbox/leased/Relay.js"
import { Outbox } from "../../../src/outbox/Outbox.js"
import { OutboxWake } from "../../../src/outbox/OutboxWake.js"
import { ShardBatches } from "../../../src/outbox/sharded/ShardBatches.js"
import * as ShardCount from "../../../src/outbox/sharded/ShardCount.js"
import * as ShardOrphans from "../../../src/outbox/sharded/ShardOrphans.js"
import { ShardOwners } from "../../../src/outbox/sharded/ShardOwners.js"
import * as ShardRelay from "../../../src/outbox/sharded/ShardRelay.js"
import * as ShardTakeover from "../../../src/outbox/sharded/ShardTakeover.js"
import * as KafkaAnswers from "../../harness/KafkaAnswers.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as PgTest from "../../harness/PgTest.js"
import * as Fixtures from "../Fixtures.js"

/** Longer than a test: nothing that happens here happens because a lease has run out by itself. */
const lease = Duration.seconds(60)

const TestLayer = Layer.merge(ShardOwners.Default({ lease }), ShardBatches.Default).pipe(
  Layer.provideMerge(Fixtures.layer),
  Layer.merge(OutboxWake.layerLocal)
)

/** An empty outbox, and eight shards that the brokers have never heard of. */
const fresh = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Fixtures.clear
  yield* sql`DELETE FROM outbox_relay`
  const run = randomUUID()
  yield* sql`DELETE FROM outbox_shard`
  yield* sql`INSERT INTO outbox_shard (shard, name) SELECT n, ${run} || '-' || n FROM generate_series(0, 7) AS n`
})

const shardOptions = (topic: string): ShardTakeover.ShardOptions => ({
  kafka: KafkaTest.kafka(),
  topic,
  batchSize: 500,
  lease
})

const serve = (topic: string, options: Partial<ShardRelay.ShardRelayOptions> = {}) =>
  Effect.flatMap(PgTest.DatabaseUrl, (url) =>
    ShardRelay.serve({
      ...shardOptions(topic),
      pollInterval: "20 millis",
      notifications: Redacted.make(url),
      drainTimeout: "10 seconds",
      report: () => Effect.void,
      ...options
    }))

const until = <A, E, R>(look: Effect.Effect<A, E, R>, holds: (a: A) => boolean) =>
  look.pipe(
    Effect.filterOrFail(holds, () => new Error("not yet")),
    Effect.retry(Schedule.spaced("20 millis")),
    Effect.timeout("30 seconds"),
    Effect.orDie
  )

const count = (status: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM event WHERE status = ${status}::event_status`,
      ([row]) => row!.n
    ))

/** All committed records of a topic, each partition in its order. */
const records = Effect.fnUntraced(function*(topic: string) {
  const spans = yield* KafkaOffsets.spans(KafkaTest.kafka(), topic, undefined)
  const found: Array<
    { readonly id: string; readonly key: string; readonly value: string; readonly partition: number }
  > = []
  yield* KafkaScan.scan(KafkaTest.kafka(), topic, spans, (partition, batch) =>
    Effect.sync(() => {
      for (const { headers, key, value } of batch) {
        found.push({ id: String(headers!["event-id"]), key: String(key), value: String(value), partition })
      }
    }))
  return found
})

const idsOnTopic = (topic: string) => Effect.map(records(topic), (found) => found.map(({ id }) => id).sort())

/** Orders of one shard. */
const ordersOf = Effect.fnUntraced(function*(shard: number, count: number) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly n: number }>`
    SELECT n::int AS n FROM generate_series(1, 2000) AS n WHERE (hashint8(n) & 7) = ${shard} ORDER BY n LIMIT ${count}
  `
  return rows.map(({ n }) => n)
})

/** The owner of the shard has not been heard of for long. */
const expire = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`UPDATE outbox_shard SET owned_to = clock_timestamp() - interval '1 second' WHERE owner IS NOT NULL`
)

/** Takes shard 0, whoever has it. */
const takeShard = Effect.gen(function*() {
  yield* expire
  const [owned] = yield* (yield* ShardOwners).acquire(1)
  assert.strictEqual(owned!.shard, 0)
  return owned!
})

/** A relay at its work by hand: shard 0 is its own, and it has claimed the first event of each order. */
const claimed = Effect.fnUntraced(function*(topic: string, events: number) {
  const ids = yield* Fixtures.append(yield* ordersOf(0, events), { topic })
  const owned = yield* takeShard
  const transactions = yield* ShardTakeover.takeOver(owned, shardOptions(topic))
  const batch = Option.getOrThrow(yield* (yield* ShardBatches).claim(owned, 500))
  assert.deepStrictEqual(batch.events.map(({ id }) => id), ids)
  return { ids, owned, transactions, batch, outgoing: batch.events.map(Fixtures.record) } as const
})

/** The rest, as a relay that finds the shard after all others. */
const deliver = Effect.fnUntraced(function*(topic: string) {
  const batches = yield* ShardBatches
  const owned = yield* takeShard
  const transactions = yield* ShardTakeover.takeOver(owned, shardOptions(topic))
  const batch = Option.getOrThrow(yield* batches.claim(owned, 500))
  if (batch.events.length > 0) {
    yield* transactions.send(batch.events.map(Fixtures.record), batch.number)
    yield* transactions.commit
    yield* batches.mark(owned, batch)
  }
  return batch.events.length
}, Effect.scoped)

const nameOf = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ readonly name: string }>`SELECT name FROM outbox_shard WHERE shard = 0`,
    ([row]) => row!.name
  ))

/** The brokers forget what was committed for shard 0. */
const loseNumber = Effect.flatMap(
  nameOf,
  (name) =>
    Kafka.withAdmin(KafkaTest.kafka(), (admin) =>
      Kafka.attempt(() => admin.deleteGroups([name])).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 })
      ))
)

/** Records in every partition that are older than anything that a relay may look for. */
const oldRecords = Effect.fnUntraced(function*(topic: string) {
  const producer = yield* Effect.acquireRelease(
    Effect.sync(() => Kafka.client(KafkaTest.kafka()).producer()),
    (producer) => Effect.promise(() => producer.disconnect())
  )
  yield* Effect.promise(() => producer.connect())
  const timestamp = String(Date.now() - 3_600_000)
  yield* Effect.promise(() =>
    producer.send({ topic, messages: Arr.range(0, 3).map((partition) => ({ partition, value: "old", timestamp })) })
  )
}, Effect.scoped)

/** Owners that also tell which shards went through them. */
const watched = Effect.map(ShardOwners, (owners) => {
  const shards = new Set<number>()
  const service = {
    ...owners,
    acquire: (count: number) =>
      Effect.tap(owners.acquire(count), (taken) => taken.forEach(({ shard }) => shards.add(shard))),
    release: (owned: Parameters<typeof owners.release>[0]) =>
      Effect.tap(owners.release(owned), () => shards.delete(owned.shard))
  } as unknown as ShardOwners
  return { shards, service } as const
})

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("ShardRelay", (it) => {
  it("shares are even, and sum up, for any number of relays", () => {
    for (const shards of [1, 7, 8, 64]) {
      for (const alive of Arr.range(1, 20)) {
        const shares = Arr.makeBy(alive, (before) => ShardRelay.share(shards, alive, before))
        assert.strictEqual(Arr.reduce(shares, 0, (sum, share) => sum + share), shards)
        assert.isAtMost(Math.max(...shares) - Math.min(...shares), 1)
      }
    }
  })

  it.scoped("publishes every event once, with its exact body, the orders' events in their order", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic()
      const orders = Arr.range(1, 40)
      yield* Fixtures.append(orders, { topic })
      yield* Fixtures.append(orders, { topic, status: "COMPLETED" })
      const rows = yield* sql<{ readonly id: string; readonly payload: string }>`SELECT id, payload FROM event`
      const relay = yield* Effect.forkScoped(serve(topic))
      yield* until(count("DONE"), (n) => n === 80)
      yield* Fiber.interrupt(relay)

      const found = yield* until(records(topic), ({ length }) => length >= 80)
      assert.lengthOf(found, 80)
      const bodies = new Map(rows.map(({ id, payload }) => [id, payload]))
      for (const { id, value } of found) assert.strictEqual(value, bodies.get(id))
      for (const order of orders) {
        const ofOrder = found.filter(({ key }) => key === String(order))
        assert.deepStrictEqual(ofOrder.map(({ value }) => JSON.parse(value).status), ["CREATED", "COMPLETED"])
        assert.strictEqual(new Set(ofOrder.map(({ partition }) => partition)).size, 1)
      }
      const owners = yield* sql`SELECT FROM outbox_shard WHERE owner IS NOT NULL`
      assert.isEmpty(owners, "it has ended, and keeps shards")
    }))

  it.scoped("relays share the shards evenly; one that comes or goes moves them without waiting for a lease", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const relay = Effect.gen(function*() {
        const { service, shards } = yield* watched
        const fiber = yield* Effect.forkScoped(Effect.provideService(serve(topic), ShardOwners, service))
        return { shards, fiber } as const
      })
      const [first, second] = [yield* relay, yield* relay]
      const sizes = (...relays: ReadonlyArray<{ readonly shards: ReadonlySet<number> }>) =>
        Effect.sync(() => relays.map(({ shards }) => shards.size).sort().join())
      yield* until(sizes(first, second), (now) => now === "4,4")
      const third = yield* relay
      yield* until(sizes(first, second, third), (now) => now === "2,3,3")
      assert.strictEqual(new Set([...first.shards, ...second.shards, ...third.shards]).size, 8)
      yield* Fiber.interrupt(second.fiber)
      assert.strictEqual(second.shards.size, 0)
      yield* until(sizes(first, third), (now) => now === "4,4")
      // and all of them are served
      yield* Fixtures.append(Arr.range(1, 40), { topic })
      yield* until(count("DONE"), (n) => n === 40)
      yield* Fiber.interruptAll([first.fiber, third.fiber])
    }))

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

  it.scoped("a coordinator that has just got the group says what was, until it acknowledges something itself", () =>
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

  it.scoped("the markers of the last transaction are waited for, and cost no attempt", () =>
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

  it.scoped("a relay whose token is not the owner's changes nothing, nor does a late statement of the owner", () =>
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
        assert.isTrue(Option.isNone(yield* batches.ledger(owned)))
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

  it.scoped("a late mark of a batch that was given up marks nothing", () =>
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

  it.scoped("the number of shards changes under relays: every event once, in order, on whichever side of it", () =>
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

  it.scoped("who changes the number of shards and has lost one of them changes nothing", () =>
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

  it.scoped("an at-least-once claim takes no event that is in a batch, and none after it", () =>
    Effect.gen(function*() {
      yield* fresh
      const outbox = yield* Outbox
      const topic = yield* KafkaTest.freshTopic()
      const { ids } = yield* claimed(topic, 3)
      const orders = yield* ordersOf(0, 4)
      const [, , , free] = yield* Fixtures.append(orders, { topic, status: "COMPLETED" })
      const { events } = yield* outbox.claim(500)
      assert.deepStrictEqual(events.map(({ id }) => id), [free])
      assert.lengthOf(ids, 3)
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
    it.scoped(`the number lost, with an open batch: the topic tells when it has ${onTopic} of it`, () =>
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

  it.scoped("the number lost, and the topic cannot tell: the shard says so and waits, until an operator decides", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const batches = yield* ShardBatches
      const topic = yield* KafkaTest.freshTopic()
      const half = yield* Effect.scoped(Effect.gen(function*() {
        const { batch, ids, outgoing, transactions } = yield* claimed(topic, 2)
        yield* transactions.send(outgoing.slice(0, 1), batch.number)
        yield* transactions.commit
        return ids
      }))
      yield* loseNumber
      yield* expire

      const others = (yield* Fixtures.append(yield* ordersOf(1, 3), { topic })).length
      const problems: Array<string | undefined> = []
      const relay = yield* Effect.forkScoped(
        serve(topic, { report: (problem) => Effect.sync(() => void problems.push(problem)) })
      )
      yield* until(count("DONE"), (n) => n === others)
      yield* until(Effect.sync(() => problems.at(-1) ?? ""), (problem) => problem.includes("number of shard 0"))
      assert.include(problems.at(-1)!, "2 events")
      assert.strictEqual(yield* batches.decide(0, false), 0, "the batch is younger than a minute")
      yield* sql`UPDATE outbox_shard SET batch_at = batch_at - interval '2 minutes' WHERE shard = 0`
      // one of them is on the topic, which this operator overlooks
      assert.strictEqual(yield* batches.decide(0, true), 2)
      const more = yield* Fixtures.append(yield* ordersOf(0, 2), { topic, status: "COMPLETED" })
      yield* until(count("DONE"), (n) => n === others + 4)
      yield* until(Effect.sync(() => problems.at(-1)), (problem) => problem === undefined)
      yield* Fiber.interrupt(relay)
      const sent = yield* until(idsOnTopic(topic), ({ length }) => length >= others + 3)
      assert.lengthOf(sent, others + 3)
      assert.include(sent, half[0])
      assert.includeMembers(sent, more)
    }))

  it.scoped("a relay with a stuck shard stops at once", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      yield* Effect.scoped(claimed(topic, 1))
      yield* loseNumber
      yield* expire
      const problems: Array<string | undefined> = []
      const relay = yield* Effect.forkScoped(serve(topic, {
        drainTimeout: "1 hour",
        report: (problem) => Effect.sync(() => void problems.push(problem))
      }))
      yield* until(Effect.sync(() => problems.at(-1) ?? ""), (problem) => problem.includes("number of shard 0"))
      yield* Fiber.interrupt(relay).pipe(Effect.timeout("15 seconds"))
    }))

  it.scoped("one refused record holds up no other, and doubles nothing", () =>
    Effect.gen(function*() {
      yield* fresh
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic({ "max.message.bytes": "20000" })
      const ids = yield* Fixtures.append(yield* ordersOf(0, 40), { topic })
      yield* sql`UPDATE event SET payload = repeat('x', 30000) WHERE id = ${ids[20]!}`
      const relay = yield* Effect.forkScoped(serve(topic))
      yield* until(count("DONE"), (n) => n === 39)
      yield* until(Fixtures.statusOf(ids[20]!), ({ attempts }) => attempts >= 1)
      yield* Fiber.interrupt(relay)
      const { last_error, status } = yield* Fixtures.statusOf(ids[20]!)
      assert.deepStrictEqual([status, last_error], ["WAIT", "MESSAGE_TOO_LARGE"])
      const sent = yield* until(idsOnTopic(topic), ({ length }) => length >= 39)
      assert.deepStrictEqual(sent, ids.filter((_, place) => place !== 20).sort())
    }))

  it.scoped("an at-least-once relay goes on with what a dead exactly-once relay held", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const dead = yield* Scope.make()
      const { batch, outgoing, owned, transactions } = yield* Scope.extend(claimed(topic, 3), dead)
      yield* transactions.send(outgoing, batch.number)
      yield* transactions.commit
      yield* Fixtures.append((yield* ordersOf(0, 5)).slice(3), { topic })
      const second = Option.getOrThrow(yield* (yield* ShardBatches).claim(owned, 500))
      yield* transactions.send(second.events.map(Fixtures.record), second.number)
      yield* Fixtures.append(yield* ordersOf(0, 5), { topic, status: "COMPLETED" })

      const url = yield* PgTest.DatabaseUrl
      const relay = yield* Effect.forkScoped(
        Effect.raceFirst(
          Relay.serve({
            batchSize: 500,
            lease,
            pollInterval: "20 millis",
            notifications: Redacted.make(url),
            drainTimeout: "10 seconds",
            onTurn: () => Effect.void
          }),
          ShardOrphans.settleOrphans({ ...shardOptions(topic), interval: "50 millis" })
        ).pipe(Effect.provide(KafkaPublisher.layer(KafkaTest.kafka())))
      )
      yield* expire
      yield* until(count("DONE"), (n) => n === 10)
      yield* Fiber.interrupt(relay)
      const found = yield* until(records(topic), ({ length }) => length >= 10)
      assert.lengthOf(found, 10)
      for (const order of yield* ordersOf(0, 5)) {
        const ofOrder = found.filter(({ key }) => key === String(order))
        assert.deepStrictEqual(ofOrder.map(({ value }) => JSON.parse(value).status), ["CREATED", "COMPLETED"])
      }
    }))

  it.scoped("a lease that the brokers find too long is told by its name, and asked again", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const problems: Array<string | undefined> = []
      const relay = yield* Effect.forkScoped(serve(topic, {
        lease: "20 minutes",
        report: (problem) => Effect.sync(() => void problems.push(problem))
      }))
      yield* until(Effect.sync(() => problems.at(-1) ?? ""), (problem) => problem.includes("OUTBOX_LEASE"))
      assert.include(problems.at(-1)!, "transaction.max.timeout.ms")
      yield* Fiber.interrupt(relay)
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

  it.scoped("the database's clock is two hours ahead of the brokers': records go without a time, and no event is at fault", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      yield* Fixtures.databaseAhead("2 hours")
      yield* Fixtures.append(Arr.range(1, 20), { topic })
      const [lines, logger] = Fixtures.logs()
      yield* Effect.forkScoped(Effect.provide(serve(topic), logger))
      yield* until(count("DONE"), (n) => n === 20)
      const sql = yield* SqlClient.SqlClient
      assert.isEmpty(yield* sql`SELECT FROM event WHERE attempts > 0`)
      assert.lengthOf(yield* records(topic), 20)
      assert.lengthOf(lines.filter((line) => line.includes("refuses the time of our records")), 1)
    }))

  for (const [request, fault] of Fixtures.refusals) {
    it.scoped(`a broker answers ${request} with ${fault().name}: told once with its word, no attempt, then over`, () =>
      Effect.gen(function*() {
        yield* fresh
        const topic = yield* KafkaTest.freshTopic()
        let refuses = true
        yield* KafkaAnswers.between((asked, ask) => refuses && asked === request ? Promise.reject(fault()) : ask())
        yield* Fixtures.append(Arr.range(1, 20), { topic })
        const [lines, logger] = Fixtures.logs()
        let problem: string | undefined
        yield* Effect.forkScoped(Effect.provide(
          serve(topic, { report: (now) => Effect.sync(() => void (problem = now)) }),
          logger
        ))
        const word = Kafka.reason(fault())
        const told = (line: string) => line.startsWith("not publishing: ")
        yield* until(Effect.sync(() => lines.filter(told).length), (n) => n === 1)
        // nothing says in between that all is well
        for (let look = 0; look < 30; look++) {
          assert.include(problem, word)
          yield* Effect.sleep("50 millis")
        }
        refuses = false
        yield* until(count("DONE"), (n) => n === 20)
        yield* until(Effect.sync(() => problem), (now) => now === undefined)
        assert.strictEqual(lines.filter(told).length, 1)
        assert.isTrue(lines.some((line) => line.startsWith("publishing again, after ")))
        const sql = yield* SqlClient.SqlClient
        assert.isEmpty(yield* sql`SELECT FROM event WHERE attempts > 0`)
      }))
  }

  it.scoped("a broker stalls while shards are handed over: the others are kept", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const sql = yield* SqlClient.SqlClient
      const owned = sql<{ readonly token: string; readonly alive: boolean }>`
        SELECT owner::text AS token, owned_to > clock_timestamp() AS alive FROM outbox_shard WHERE owner IS NOT NULL
      `
      let stalls = true
      const go: Array<() => void> = []
      yield* KafkaAnswers.between((asked, ask) =>
        stalls && asked === "EndTxn"
          ? new Promise<void>((resolve) => go.push(resolve)).then(ask)
          : ask()
      )
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          stalls = false
          go.forEach((resolve) => resolve())
        })
      )
      const relay = yield* serve(topic, { pollInterval: "100 millis" }).pipe(
        Effect.provide(ShardOwners.Default({ lease: "2 seconds" })),
        Effect.forkScoped
      )
      // each shard waits for the broker
      yield* until(Effect.sync(() => go.length), (n) => n === 8)
      // another relay has come, and gets half of them
      yield* sql`
        INSERT INTO outbox_relay (id, alive_to)
        VALUES ('00000000-0000-0000-0000-000000000000', clock_timestamp() + interval '1 hour')
      `
      const tokens = new Set((yield* owned).map(({ token }) => token))
      const since = yield* Clock.currentTimeNanos
      while ((yield* Clock.currentTimeNanos) - since < 5_000_000_000n) {
        const now = yield* owned
        assert.isTrue(now.every(({ alive, token }) => alive && tokens.has(token)), "a shard was not kept")
        yield* Effect.sleep("50 millis")
      }
      stalls = false
      go.forEach((resolve) => resolve())
      yield* until(owned, ({ length }) => length === 4)
      yield* Fiber.interrupt(relay)
    }))

  it.scoped("a worker dies of a bug: the relay fails with it, and leaves nobody a lease to wait for", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const sql = yield* SqlClient.SqlClient
      yield* Fixtures.append(Arr.range(1, 20), { topic })
      const batches = yield* ShardBatches
      const claim: typeof batches.claim = (owned, limit) =>
        owned.shard === 3 ? Effect.dieMessage("division by zero") : batches.claim(owned, limit)
      const relay = yield* serve(topic).pipe(
        Effect.provideService(ShardBatches, ShardBatches.make({ ...batches, claim })),
        Effect.fork
      )
      const exit = yield* Fiber.await(relay).pipe(Effect.timeout("30 seconds"))
      assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
      assert.isEmpty(yield* sql`SELECT FROM outbox_shard WHERE owner IS NOT NULL`)
      assert.isEmpty(yield* sql`SELECT FROM outbox_relay`)
    }))
})
