import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Deferred, Effect, Fiber, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../src/domain/Payment.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { ShardBatches } from "../../src/outbox/sharded/ShardBatches.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { Operations } from "../../src/repair/Operations.js"
import { everything, OutboxEvents } from "../../src/repair/OutboxEvents.js"
import { OutboxRepair } from "../../src/repair/OutboxRepair.js"
import { OutboxReplay } from "../../src/repair/OutboxReplay.js"
import { eventually, until } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as Fixtures from "../outbox/Fixtures.js"
import * as Shards from "../outbox/sharded/ShardFixtures.js"

const TestLayer = Layer.mergeAll(
  OutboxEvents.Default,
  OutboxRepair.Default,
  OutboxReplay.Default,
  Operations.Default,
  Payments.Default.pipe(Layer.provide(PaymentRepo.Default))
).pipe(Layer.provideMerge(Shards.OwnerLayer))

const by = () => ({ run: randomUUID(), operator: "night shift", reason: "a test" })
const pacing = { rate: 100_000, onStep: () => Effect.void }
const one = (orders: ReadonlyArray<number>) => ({ ...everything, orders: orders.map(BigInt) })
const done = (orders: ReadonlyArray<number>) => ({ ...one(orders), since: undefined, until: undefined })

const clear = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`TRUNCATE event, payment, operation`)

/** Marks events, all of these ids. */
const mark = Effect.fnUntraced(
  function*(ids: ReadonlyArray<string>, status: "DEAD" | "DONE", error = "MESSAGE_TOO_LARGE") {
    const sql = yield* SqlClient.SqlClient
    yield* status === "DEAD"
      ? sql`UPDATE event SET status = 'DEAD', attempts = 10, last_error = ${error} WHERE id = ANY(${[
        ...ids
      ]}::bigint[])`
      : sql`UPDATE event SET status = 'DONE', done_at = clock_timestamp(), batch = 7 WHERE id = ANY(${[
        ...ids
      ]}::bigint[])`
  }
)

const paid = Effect.fnUntraced(function*(orders: ReadonlyArray<number>, status: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`INSERT INTO payment (order_id, status) SELECT unnest(${[...orders]}::bigint[]), ${status}::payment_status`
})

const rows = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql<Record<"id" | "status" | "payload", string> & { readonly attempts: number; readonly batch: string | null }>`
    SELECT id, status, payload, attempts, batch FROM event ORDER BY event.id
  `
)

const claimed = Effect.gen(function*() {
  return (yield* (yield* Outbox).claim(1_000)).events.map(({ id }) => id)
})

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("repair of the outbox", (it) => {
  it.effect("list: counts by state and error, and the oldest first; blocked: what stands behind each dead event", () =>
    Effect.gen(function*() {
      yield* clear
      const events = yield* OutboxEvents
      const created = yield* Fixtures.append([1, 2, 3, 4])
      const [behind] = yield* Fixtures.append([1], { status: "COMPLETED" })
      yield* mark([created[0]!, created[1]!], "DEAD")
      yield* mark([created[2]!], "DEAD", "POLICY_VIOLATION")
      const groups = yield* events.groups(everything, undefined)
      assert.deepStrictEqual(groups.map(({ count, last_error, state }) => [state, last_error, count]), [
        ["dead", "MESSAGE_TOO_LARGE", 2],
        ["dead", "POLICY_VIOLATION", 1],
        ["behind", null, 1],
        ["due", null, 1]
      ])
      const list = yield* events.list({ ...everything, error: "TOO_LARGE" }, "dead", 10)
      assert.deepStrictEqual(list.map(({ id, says }) => [id, says]), [[created[0]!, "CREATED"], [
        created[1]!,
        "CREATED"
      ]])
      const blocked = yield* events.blocked(everything, 10)
      assert.deepStrictEqual(blocked.map((_) => [_.id, _.behind]), [[created[0], 1], [created[1], 0], [created[2], 0]])
      assert.deepStrictEqual(yield* events.blockedTotal, { dead: 3, behind: 1 })
      assert.deepStrictEqual((yield* events.list(one([1]), "behind", 1)).map(({ id }) => id), [behind])
    }))

  it.scoped("beside a running exactly-once relay: retried and replayed events are on the topic, skipped ones are not", () =>
    Effect.gen(function*() {
      yield* clear
      yield* Shards.fresh
      const topic = yield* KafkaTest.freshTopic()
      const [repair, replay] = [yield* OutboxRepair, yield* OutboxReplay]
      const orders = Arr.range(1, 30)
      yield* paid(orders, "CREATED")
      const ids = yield* Fixtures.append(orders, { topic })
      const behind = yield* Fixtures.append([2, 3, 4], { topic, status: "COMPLETED" })
      yield* mark(ids.slice(0, 4), "DEAD")
      const bodies = new Map((yield* rows).map(({ id, payload }) => [id, payload]))
      yield* Effect.forkScoped(Shards.serve(topic))
      yield* until(Shards.count("DONE"), (n) => n === 26)

      const retried = yield* repair.planRetry(one([1, 2]))
      assert.deepInclude(yield* repair.retry(retried, by(), pacing), { changed: 2 })
      const skipped = yield* repair.planSkip(one([3]))
      assert.deepInclude(yield* repair.skip(skipped, by(), pacing), { changed: 1 })
      // the CREATED of 1, 2 and 3, and the COMPLETED of 2 and 3; order 4 still waits behind its dead event
      yield* until(Shards.count("DONE"), (n) => n === 31)
      const again = yield* replay.plan(done([1, 2, 30]))
      assert.lengthOf(again.events, 4)
      assert.deepInclude(yield* replay.replay(again, by(), pacing), { changed: 4 })
      yield* until(Shards.count("DONE"), (n) => n === 31)

      const found = yield* Shards.records(topic)
      const times = (id: string) => found.filter((record) => record.id === id).length
      assert.deepStrictEqual(ids.map(times), [2, 2, 0, 0, ...Arr.replicate(1, 25), 2])
      assert.deepStrictEqual(behind.map(times), [2, 1, 0])
      for (const { id, value } of found) assert.strictEqual(value, bodies.get(id))
      const ofTwo = found.filter(({ key }) => key === "2").map(({ id }) => id)
      assert.deepStrictEqual(ofTwo, [ids[1], behind[0], ids[1], behind[0]])
    }))

  it.effect("retry: twice at once changes each dead event once, keeps its body, and both deliveries take it", () =>
    Effect.gen(function*() {
      yield* clear
      const repair = yield* OutboxRepair
      const ids = yield* Fixtures.append(Arr.range(1, 300))
      yield* mark(ids, "DEAD")
      const before = yield* rows
      const plan = yield* repair.planRetry({ ...everything, error: "MESSAGE" })
      assert.deepStrictEqual(plan.events.map(({ id }) => id), [...ids])
      const both = yield* Effect.all([repair.retry(plan, by(), pacing), repair.retry(plan, by(), pacing)], {
        concurrency: 2
      })
      assert.strictEqual(both[0].changed + both[1].changed, 300)
      assert.strictEqual(both[0].unchanged + both[1].unchanged, 300)
      const after = yield* rows
      assert.deepStrictEqual(
        after.map(({ id, payload }) => [id, payload]),
        before.map(({ id, payload }) => [id, payload])
      )
      assert.isTrue(after.every(({ attempts, status }) => status === "WAIT" && attempts === 0))
      const noted = yield* (yield* Operations).last(1_000)
      assert.strictEqual(new Set(noted.map(({ event_id }) => event_id)).size, 300)
      assert.lengthOf(noted, 300)
      assert.deepInclude(noted[0], { action: "outbox retry", operator: "night shift", reason: "a test" })
      assert.deepInclude(noted[0]!.before, { status: "DEAD", attempts: 10, last_error: "MESSAGE_TOO_LARGE" })
      // leased events are in hand: a retry of them would send them twice
      assert.sameMembers(yield* claimed, [...ids])
      assert.lengthOf((yield* repair.planRetry(everything)).events, 0)

      yield* Shards.fresh
      const mine = yield* Shards.ordersOf(0, 5)
      const shard = yield* Fixtures.append(mine)
      yield* mark(shard, "DEAD")
      yield* repair.retry(yield* repair.planRetry(everything), by(), pacing)
      const batch = yield* (yield* ShardBatches).claim(yield* Shards.takeShard, 10)
      assert.deepStrictEqual(batch.pipe((_) => _._tag === "Some" ? _.value.events.map(({ id }) => id) : []), [...shard])
    }))

  it.effect("a refused event in its back-off is due at once; an event without a payload that can be read is left out", () =>
    Effect.gen(function*() {
      yield* clear
      const sql = yield* SqlClient.SqlClient
      const repair = yield* OutboxRepair
      const [refused] = yield* Fixtures.append([1])
      yield* sql`
        UPDATE event SET attempts = 2, last_error = 'POLICY_VIOLATION', reserved_to = clock_timestamp() + interval '1 hour'
      `
      yield* sql`INSERT INTO event (topic, payload, status) VALUES ('payment', 'unreadable', 'DEAD')`
      const plan = yield* repair.planRetry(everything)
      assert.deepStrictEqual(plan.events.map(({ id }) => id), [refused])
      assert.match(plan.leftOut[0]!.reason, /skip it/)
      yield* repair.retry(plan, by(), pacing)
      assert.deepStrictEqual(yield* claimed, [refused])
    }))

  it.effect("skip: the order goes on without the event; retry and skip of the same event at once: one of them", () =>
    Effect.gen(function*() {
      yield* clear
      const repair = yield* OutboxRepair
      const [first] = yield* Fixtures.append([1])
      const [terminal] = yield* Fixtures.append([1], { status: "COMPLETED" })
      yield* mark([first!], "DEAD")
      const [toSkip, toRetry] = [yield* repair.planSkip(one([1])), yield* repair.planRetry(one([1]))]
      assert.deepStrictEqual((yield* repair.skip(toSkip, by(), pacing)).changed, 1)
      assert.deepStrictEqual((yield* repair.retry(toRetry, by(), pacing)).changed, 0)
      assert.deepStrictEqual(yield* claimed, [terminal])
    }))

  it.effect("replay: an event goes with the later ones of its order, in their order, with their keys; twice at once once", () =>
    Effect.gen(function*() {
      yield* clear
      const replay = yield* OutboxReplay
      const orders = Arr.range(1, 50)
      yield* paid(orders, "COMPLETED")
      const created = yield* Fixtures.append(orders)
      const terminal = yield* Fixtures.append(orders, { status: "COMPLETED" })
      yield* mark([...created, ...terminal], "DONE")
      const before = yield* rows
      const only = yield* replay.plan({ ...done([]), events: [BigInt(terminal[0]!)] })
      assert.deepStrictEqual(only.events.map(({ id }) => id), [terminal[0]])
      const plan = yield* replay.plan({ ...done([]), events: created.map(BigInt) })
      assert.lengthOf(plan.events, 100)
      assert.isFalse(plan.events.some(({ old }) => old))
      const both = yield* Effect.all([replay.replay(plan, by(), pacing), replay.replay(plan, by(), pacing)], {
        concurrency: 2
      })
      assert.strictEqual(both[0].changed + both[1].changed, 100)
      const after = yield* rows
      assert.deepStrictEqual(after.map(({ payload }) => payload), before.map(({ payload }) => payload))
      assert.isTrue(after.every(({ batch, status }) => status === "WAIT" && batch === null))
      assert.sameMembers(yield* claimed, [...created], "the terminal events wait behind CREATED")
    }))

  it.effect("replay leaves out: an unpublished event of the order, no payment, a terminal event without a row", () =>
    Effect.gen(function*() {
      yield* clear
      const replay = yield* OutboxReplay
      const sql = yield* SqlClient.SqlClient
      yield* paid([1, 2, 3], "COMPLETED")
      const created = yield* Fixtures.append([1, 2, 3, 4])
      const [first] = yield* Fixtures.append([1], { status: "COMPLETED" })
      const [, pruned] = yield* Fixtures.append([2, 3], { status: "COMPLETED" })
      yield* mark([...created, first!, pruned!], "DONE")
      yield* sql`DELETE FROM event WHERE id = ${pruned!}`
      yield* sql`UPDATE event SET done_at = clock_timestamp() - interval '16 minutes' WHERE id = ${created[0]!}`
      const { events, leftOut } = yield* replay.plan(done([1, 2, 3, 4]))
      assert.deepStrictEqual(events.map(({ id, old }) => [id, old]), [[created[0], true], [first, false]])
      assert.deepStrictEqual(leftOut.map(({ examples, reason }) => [examples[0], reason.slice(0, 20)]), [
        ["order 2", "an event of the orde"],
        ["order 3", "the terminal event o"],
        ["order 4", "the order has no pay"]
      ])
      const late = yield* replay.plan({ ...done([]), until: Date.now() - 15.5 * 60_000 })
      assert.deepStrictEqual(late.events.map(({ id }) => id), [created[0], first], "by time")
    }))

  it.effect("replay leaves an order alone that was paid after the preview", () =>
    Effect.gen(function*() {
      yield* clear
      const replay = yield* OutboxReplay
      yield* paid([1, 2], "CREATED")
      yield* mark(yield* Fixtures.append([1, 2]), "DONE")
      const plan = yield* replay.plan(done([1, 2]))
      yield* (yield* Payments).settle(OrderId.make(1n), "COMPLETED")
      yield* mark((yield* rows).filter(({ status }) => status === "WAIT").map(({ id }) => id), "DONE")
      assert.deepStrictEqual(yield* replay.replay(plan, by(), pacing), { changed: 1, unchanged: 1 })
      assert.deepStrictEqual((yield* rows).map(({ status }) => status), ["DONE", "WAIT", "DONE"])
    }))

  it.effect("a settlement that began before a replay: its event never overtakes CREATED", () =>
    Effect.gen(function*() {
      yield* clear
      const sql = yield* SqlClient.SqlClient
      const replay = yield* OutboxReplay
      yield* paid([1], "CREATED")
      const [created] = yield* Fixtures.append([1])
      yield* mark([created!], "DONE")
      const plan = yield* replay.plan(done([1]))
      // the settlement waits for this row: its snapshot shows CREATED as DONE, so it would lease the terminal event
      const [locked, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const holder = yield* sql.withTransaction(
        sql`SELECT FROM payment WHERE order_id = 1 FOR UPDATE`.pipe(
          Effect.zipRight(Deferred.succeed(locked, undefined)),
          Effect.zipRight(Deferred.await(release))
        )
      ).pipe(Effect.fork)
      yield* Deferred.await(locked)
      const repo = yield* PaymentRepo.pipe(Effect.provide(PaymentRepo.Default))
      const settling = yield* repo.settle({
        orderId: OrderId.make(1n),
        status: "COMPLETED",
        payload:
          "{\"idempotent_key\":\"00000000-0000-4000-8000-00000000abcd\",\"order_id\":1,\"status\":\"COMPLETED\"}",
        traceparent: null
      }).pipe(Effect.fork)
      yield* sql<{ readonly n: number }>`
        SELECT count(*)::int AS n FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%target AS MATERIALIZED%'
      `.pipe(Effect.tap(([row]) => assert.strictEqual(row!.n, 1)), eventually())
      const replaying = yield* replay.replay(plan, by(), pacing).pipe(Effect.fork)
      // it waits for the settlement; without that it would have ended by now
      yield* sql<{ readonly n: number }>`
        SELECT count(*)::int AS n FROM pg_locks
        WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND relation = 'event'::regclass AND NOT granted
      `.pipe(
        Effect.zip(Fiber.poll(replaying)),
        Effect.tap(([[row], ended]) => assert.isTrue(row!.n === 1 || ended._tag === "Some")),
        eventually()
      )
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      yield* Fiber.join(settling)
      assert.deepStrictEqual(yield* Fiber.join(replaying), { changed: 0, unchanged: 1 })
      assert.deepStrictEqual((yield* rows).map(({ status }) => status), ["DONE", "WAIT"])
    }))

  it.effect("at most `rate` changes a second", () =>
    Effect.gen(function*() {
      yield* clear
      const repair = yield* OutboxRepair
      yield* mark(yield* Fixtures.append(Arr.range(1, 30)), "DEAD")
      const steps: Array<number> = []
      const started = performance.now()
      yield* repair.retry(yield* repair.planRetry(everything), by(), {
        rate: 20,
        onStep: (done) => Effect.sync(() => void steps.push(done))
      })
      assert.deepStrictEqual(steps, [20, 30])
      assert.isAtLeast(performance.now() - started, 990)
    }))
})
