import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Effect, Layer, Option } from "effect"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../src/domain/Payment.js"
import * as KafkaOffsets from "../../src/infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../src/infra/kafka/KafkaScan.js"
import { EventPublisher } from "../../src/outbox/leased/EventPublisher.js"
import * as Relay from "../../src/outbox/leased/Relay.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import type { OutboxEvent } from "../../src/outbox/OutboxEvent.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { ShardBatches } from "../../src/outbox/sharded/ShardBatches.js"
import { ShardOwners } from "../../src/outbox/sharded/ShardOwners.js"
import * as ShardRelay from "../../src/outbox/sharded/ShardRelay.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { until } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Fixtures from "./Fixtures.js"

const services = Layer.mergeAll(
  Layer.provide(Payments.Default, PaymentRepo.Default),
  ShardOwners.Default({ lease: "60 seconds" }),
  ShardBatches.Default
).pipe(Layer.provideMerge(Fixtures.layer))

/** The sequence of events goes on from here, whatever it has given. */
const setTo = (id: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT setval('event_id_seq', ${id}, false)`)

/** What was published of each order, in its order. */
const sayings = (bodies: ReadonlyArray<string>) => {
  const said = new Map<string, Array<string>>()
  for (const body of bodies) {
    const { order_id, status } = JSON.parse(body) as { readonly order_id: number; readonly status: string }
    said.set(String(order_id), [...said.get(String(order_id)) ?? [], status])
  }
  return said
}
const inOrder = (bodies: ReadonlyArray<string>, orders: ReadonlyArray<number>) => {
  const said = sayings(bodies)
  for (const order of orders) assert.deepStrictEqual(said.get(String(order)), ["CREATED", "COMPLETED"], `${order}`)
}

const rounds = Arr.range(1, 3)
const ordersOf = (round: number) => Arr.range(100 * round, 100 * round + 9)
const allOrders = rounds.flatMap(ordersOf)

/** Orders that are created and settled while the sequence goes back between the two, in each round. */
const traffic = (topic: string) =>
  Effect.forEach(rounds, (round) =>
    Effect.gen(function*() {
      yield* setTo(100_000 - 1_000 * round)
      yield* Fixtures.append(ordersOf(round), { topic })
      yield* setTo(100_000 - 1_000 * round - 500)
      yield* Fixtures.append(ordersOf(round), { status: "COMPLETED", topic })
    }), { discard: true })

const allDone = until(
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT FROM event WHERE status <> 'DONE'`),
  ({ length }) => length === 0
)

layer(services, { timeout: "60 seconds", excludeTestServices: true })("the sequence of events is set back", (it) => {
  it.effect("a claim leaves out the terminal event whose CREATED has a higher id and is not DONE", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      yield* setTo(1_000)
      yield* Fixtures.append([1, 2])
      const created = yield* outbox.claim(10)
      yield* setTo(5)
      yield* Fixtures.append([1, 2], { status: "COMPLETED" })
      assert.lengthOf((yield* outbox.claim(10)).events, 0, "leased by somebody else")
      yield* outbox.markDone(created, created.events.slice(0, 1))
      yield* outbox.release(created, created.events.slice(1), 0)
      const next = yield* outbox.claim(10)
      assert.deepStrictEqual(next.events.map(({ id }) => id), ["5", "1001"])
      yield* outbox.markDone(next, next.events)
      assert.deepStrictEqual((yield* outbox.claim(10)).events.map(({ id }) => id), ["6"])
    }))

  it.effect("of two rows of an order with the same status the lower id goes first, both before later ones", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      yield* setTo(10)
      yield* Fixtures.append([1], { status: "COMPLETED" })
      yield* Fixtures.append([1, 1])
      yield* Fixtures.append([1], { status: "COMPLETED" })
      const taken: Array<string> = []
      for (;;) {
        const claim = yield* outbox.claim(10)
        if (claim.events.length === 0) break
        assert.lengthOf(claim.events, 1)
        taken.push(claim.events[0]!.id)
        yield* outbox.markDone(claim, claim.events)
      }
      assert.deepStrictEqual(taken, ["11", "12", "10", "13"])
    }))

  it.scoped("an event is not dispatched while CREATED waits under a higher id", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const { dispatch } = yield* OutboxWake
      yield* Effect.acquireRelease(Effect.sync(() => dispatch.open(100)), () => Effect.sync(dispatch.close))
      const payments = yield* Payments
      const outbox = yield* Outbox
      const orderId = OrderId.make(77n)
      yield* setTo(1_000)
      yield* payments.reserve([{ orderId, idempotentKey: randomUUID(), traceparent: Option.none() }])
      const created = dispatch.take(10)!
      yield* setTo(5)
      yield* payments.settle(orderId, "COMPLETED")
      assert.isUndefined(dispatch.take(10))
      assert.lengthOf((yield* outbox.claim(10)).events, 0)
      yield* outbox.markDone(created, created.events)
      assert.deepStrictEqual((yield* outbox.claim(10)).events.map(({ id }) => id), ["5"])
    }))

  it.scoped("under a running relay: CREATED comes first, and events with ids below its cursor are found", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const published: Array<string> = []
      const publish = (events: ReadonlyArray<OutboxEvent>) =>
        Effect.sync(() => {
          published.push(...events.map(({ payload }) => payload))
          return { sent: events, unsent: [], undecided: [], refused: [] }
        })
      yield* Relay.serve({
        batchSize: 7,
        lease: "30 seconds",
        pollInterval: "20 millis",
        drainTimeout: "10 seconds",
        part: Fixtures.part(),
        listener: Fixtures.part()
      }).pipe(Effect.provideService(EventPublisher, { open: Effect.succeed({ publish }) }), Effect.forkScoped)
      yield* traffic("payment")
      yield* allDone
      inOrder(published, allOrders)
    }))

  it.scoped("under a running exactly-once relay: CREATED comes first, and each comes once", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const topic = yield* KafkaTest.freshTopic()
      yield* ShardRelay.serve({
        kafka: KafkaTest.kafka(),
        topic,
        batchSize: 7,
        lease: "60 seconds",
        pollInterval: "20 millis",
        drainTimeout: "10 seconds",
        part: Fixtures.part(),
        listener: Fixtures.part()
      }).pipe(Effect.forkScoped)
      yield* traffic(topic)
      yield* allDone
      const bodies: Array<string> = []
      const spans = yield* KafkaOffsets.spans(KafkaTest.kafka(), topic, undefined)
      yield* KafkaScan.scan(
        KafkaTest.kafka(),
        topic,
        spans,
        (_, records) => Effect.sync(() => void bodies.push(...records.map(({ value }) => String(value))))
      )
      inOrder(bodies, allOrders)
    }))

  it.effect("all events of an open batch are found again, also when a later batch has lower ids", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE outbox_shard SET owner = NULL, leased_to = NULL, batch = 0, done = 0`
      yield* PgTest.asAdministrator(
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql`DELETE FROM outbox_shard WHERE shard <> 0`)
      )
      const batches = yield* ShardBatches
      const [owned] = yield* (yield* ShardOwners).acquire(1)
      const claim = Effect.map(batches.claim(owned!, 10), Option.getOrThrow)
      yield* setTo(1_000)
      yield* Fixtures.append([1, 2])
      const first = yield* claim
      yield* setTo(5)
      yield* Fixtures.append([3, 4])
      const second = yield* claim
      const open = Effect.map(
        batches.stateOf(owned!),
        (ledger) => Option.getOrThrow(ledger).open.map(({ id }) => id).sort()
      )
      assert.deepStrictEqual(yield* open, ["1000", "1001", "5", "6"])
      yield* batches.mark(owned!, first)
      assert.deepStrictEqual(yield* open, ["5", "6"])
      assert.isTrue(yield* batches.reconcile(owned!, second.number - 1n))
      assert.lengthOf((yield* claim).events, 2)
    }))
})
