import { SqlClient } from "@effect/sql"
import { Array as Arr, Duration, Effect, Layer, Option, Schedule } from "effect"
import { strict as assert } from "node:assert"
import { randomUUID } from "node:crypto"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../../../src/infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../../src/infra/kafka/KafkaScan.js"
import { OutboxWake } from "../../../src/outbox/OutboxWake.js"
import { ShardBatches } from "../../../src/outbox/sharded/ShardBatches.js"
import { ShardOwners } from "../../../src/outbox/sharded/ShardOwners.js"
import * as ShardRelay from "../../../src/outbox/sharded/ShardRelay.js"
import * as ShardTakeover from "../../../src/outbox/sharded/ShardTakeover.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as PgTest from "../../harness/PgTest.js"
import * as Fixtures from "../Fixtures.js"

/** Longer than a test: no lease ends by itself. */
export const lease = Duration.seconds(60)

const shards = Layer.merge(ShardOwners.Default({ lease }), ShardBatches.Default)

export const TestLayer = shards.pipe(Layer.provideMerge(Fixtures.layer), Layer.merge(OutboxWake.layerLocal))

/** With the rights of the owner of the tables, who changes the number of shards. */
export const OwnerLayer = shards.pipe(Layer.provideMerge(Fixtures.layerOwner), Layer.merge(OutboxWake.layerLocal))

/** Empties the outbox, and makes eight shards whose names the brokers do not know. */
export const fresh = PgTest.asAdministrator(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Fixtures.clear
  yield* sql`DELETE FROM outbox_relay`
  const run = randomUUID()
  yield* sql`DELETE FROM outbox_shard`
  yield* sql`INSERT INTO outbox_shard (shard, name) SELECT n, ${run} || '-' || n FROM generate_series(0, 7) AS n`
}))

export const shardOptions = (topic: string): ShardTakeover.ShardOptions => ({
  kafka: KafkaTest.kafka(),
  topic,
  batchSize: 500,
  lease
})

export const serve = (topic: string, options: Partial<ShardRelay.ShardRelayOptions> = {}) =>
  ShardRelay.serve({
    ...shardOptions(topic),
    pollInterval: "20 millis",
    drainTimeout: "10 seconds",
    part: Fixtures.part(),
    listener: Fixtures.part(),
    ...options
  })

export const count = (status: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM event WHERE status = ${status}::event_status`,
      ([row]) => row!.n
    ))

/** All committed records of a topic, each partition in its order. */
export const records = Effect.fnUntraced(function*(topic: string) {
  const spans = yield* KafkaOffsets.spans(KafkaTest.kafka(), topic, undefined)
  const found: Array<
    Readonly<Record<"id" | "key" | "value" | "timestamp", string>> & { readonly partition: number }
  > = []
  yield* KafkaScan.scan(KafkaTest.kafka(), topic, spans, (partition, batch) =>
    Effect.sync(() => {
      for (const { headers, key, timestamp, value } of batch) {
        found.push({ id: String(headers!["event-id"]), key: String(key), value: String(value), timestamp, partition })
      }
    }))
  return found
})

export const idsOnTopic = (topic: string) => Effect.map(records(topic), (found) => found.map(({ id }) => id).sort())

/** Orders of one shard. */
export const ordersOf = Effect.fnUntraced(function*(shard: number, count: number) {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ readonly n: number }>`
    SELECT n::int AS n FROM generate_series(1, 2000) AS n WHERE (hashint8(n) & 7) = ${shard} ORDER BY n LIMIT ${count}
  `
  return rows.map(({ n }) => n)
})

/** Ends the lease of every owner. */
export const expire = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`UPDATE outbox_shard SET owned_to = clock_timestamp() - interval '1 second' WHERE owner IS NOT NULL`
)

/** Acquires shard 0, also from its owner. */
export const takeShard = Effect.gen(function*() {
  yield* expire
  const [owned] = yield* (yield* ShardOwners).acquire(1)
  assert.strictEqual(owned!.shard, 0)
  return owned!
})

/** Acts as a relay, step by step: owns shard 0, and has claimed the first event of each order. */
export const claimed = Effect.fnUntraced(function*(topic: string, events: number) {
  const ids = yield* Fixtures.append(yield* ordersOf(0, events), { topic })
  const owned = yield* takeShard
  const transactions = yield* ShardTakeover.takeOver(owned, shardOptions(topic))
  const batch = Option.getOrThrow(yield* (yield* ShardBatches).claim(owned, 500))
  assert.deepStrictEqual(batch.events.map(({ id }) => id), ids)
  return { ids, owned, transactions, batch, outgoing: batch.events.map(Fixtures.record) } as const
})

/** Takes shard 0 over and delivers the rest, as the next relay does. Returns how many events it sent. */
export const deliver = Effect.fnUntraced(function*(topic: string) {
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

/** The brokers lose the committed number of shard 0. */
export const loseNumber = Effect.flatMap(
  nameOf,
  (name) =>
    Kafka.withAdmin(KafkaTest.kafka(), (admin) =>
      Kafka.attempt(() => admin.deleteGroups([name])).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 })
      ))
)

/** Writes a record into every partition that is older than the events of any test. */
export const oldRecords = Effect.fnUntraced(function*(topic: string) {
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

/** Owners that also record the shards of their relay. */
export const watched = Effect.map(ShardOwners, (owners) => {
  const shards = new Set<number>()
  const service = {
    ...owners,
    acquire: (count: number) =>
      Effect.tap(owners.acquire(count), (taken) => taken.forEach(({ shard }) => shards.add(shard))),
    letGo: (owned: Parameters<typeof owners.letGo>[0]) =>
      Effect.tap(owners.letGo(owned), () => shards.delete(owned.shard))
  } as unknown as ShardOwners
  return { shards, service } as const
})
