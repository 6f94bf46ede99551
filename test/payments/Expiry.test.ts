import { SqlClient } from "@effect/sql"
import { assert, it, layer } from "@effect/vitest"
import { Array as Arr, Deferred, Effect, Either, Fiber, Layer, Metric, Option, TestClock } from "effect"
import { OrderId } from "../../src/domain/Payment.js"
import { DatabaseUnavailable } from "../../src/infra/postgres/Postgres.js"
import { PostgresPool } from "../../src/infra/postgres/PostgresStatement.js"
import type { Problem } from "../../src/infra/runtime/Problem.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { ShardBatches } from "../../src/outbox/sharded/ShardBatches.js"
import { ShardOwners } from "../../src/outbox/sharded/ShardOwners.js"
import * as Expiry from "../../src/payments/Expiry.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { Sequences } from "../../src/payments/Sequences.js"
import * as PgTest from "../harness/PgTest.js"
import { record } from "../outbox/Fixtures.js"

const services = Layer.mergeAll(
  Payments.Default,
  ShardOwners.Default({ lease: "30 seconds" }),
  ShardBatches.Default
).pipe(
  Layer.provideMerge(PaymentRepo.Default),
  Layer.provideMerge(Sequences.Default),
  Layer.provideMerge(Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })),
  Layer.provideMerge(OutboxWake.layerLocal),
  Layer.provideMerge(PgTest.layerService)
)

let last = 9007199254740993n

/** `CREATED` payments of this age. */
const created = Effect.fnUntraced(function*(count: number, age: string) {
  const sql = yield* SqlClient.SqlClient
  const orders = Array.from({ length: count }, () => OrderId.make(last++))
  yield* sql`
    INSERT INTO payment (order_id, status, created_at)
    SELECT order_id, 'CREATED', clock_timestamp() - ${age}::interval FROM unnest(${orders}::bigint[]) AS t (order_id)
  `
  return orders
})

interface Row {
  readonly order_id: string
  readonly status: string
  readonly reason: string | null
  readonly settled_by: string | null
  readonly events: ReadonlyArray<{ readonly payload: string; readonly reason: string | null }>
}

/** The payments of these orders with their events. */
const rowsOf = (orders: ReadonlyArray<OrderId>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql<Row>`
      SELECT order_id, status, reason, settled_by, coalesce((
        SELECT json_agg(json_build_object('payload', payload, 'reason', reason) ORDER BY id) FROM event
        WHERE event.order_id = payment.order_id
      ), '[]') AS events
      FROM payment WHERE order_id = ANY(${orders}::bigint[]) ORDER BY order_id
    `)

const empty = PgTest.asAdministrator(
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`TRUNCATE payment, event`)
)

const counted = Effect.map(Metric.snapshot, (pairs) => {
  const pair = pairs.find(({ metricKey }) => metricKey.name === "payments_expired_total")
  return Number((pair?.metricState as { readonly count?: number } | undefined)?.count ?? NaN)
})

layer(services, { timeout: "60 seconds", excludeTestServices: true })("Expiry", (it) => {
  it.effect("turns old CREATED payments into FAILED with one event each, and no other", () =>
    Effect.gen(function*() {
      yield* empty
      const payments = yield* Payments
      yield* Effect.forEach(Expiry.metrics, (metric) => Metric.value(metric))
      const before = yield* counted
      // more than a window of old ones, and settled ones among them
      const old = yield* created(1_200, "2 hours")
      const settled = Arr.take(old, 100)
      yield* Effect.forEach(settled, (order) => payments.settle(order, "COMPLETED"), { concurrency: 50 })
      const young = yield* created(3, "59 minutes")
      const position = yield* Expiry.round("1 hour", undefined, true)

      for (const row of yield* rowsOf(settled)) assert.deepStrictEqual([row.status, row.reason], ["COMPLETED", null])
      for (const row of yield* rowsOf(young)) {
        assert.deepStrictEqual([row.status, row.reason, row.events.length], ["CREATED", null, 0])
      }
      const expired = yield* rowsOf(Arr.drop(old, 100))
      const keys = new Set<string>()
      for (const { events, order_id, reason, settled_by, status } of expired) {
        assert.deepStrictEqual([status, reason, settled_by, events.length], ["FAILED", "expired", "expiry", 1])
        assert.strictEqual(events[0]!.reason, "expired")
        const [, key, order] =
          /^\{"idempotent_key":"([0-9a-f-]{36})","order_id":(\d+),"status":"FAILED"\}$/.exec(events[0]!.payload) ?? []
        assert.strictEqual(order, order_id)
        keys.add(key!)
      }
      assert.strictEqual(keys.size, 1_100)
      assert.strictEqual(yield* counted, before + 1_100)

      // windows that were open are read once more, and passed then
      assert.isUndefined(position)
      const next = yield* Expiry.round("1 hour", position, true)
      assert.isDefined(next)
      assert.strictEqual(yield* counted, before + 1_100)
    }))

  it.effect("goes on after the payments that are settled for good, and finds what is behind them", () =>
    Effect.gen(function*() {
      yield* empty
      const sql = yield* SqlClient.SqlClient
      yield* created(2_500, "2 hours")
      yield* sql`UPDATE payment SET status = 'COMPLETED'`
      const [third] = yield* created(1, "2 hours")
      const ids = sql<{ readonly id: string }>`SELECT id FROM payment ORDER BY id`
      const all = (yield* ids).map(({ id }) => id)
      assert.strictEqual(yield* Expiry.round("1 hour", undefined, true), all[1_999])
      assert.strictEqual((yield* rowsOf([third!]))[0]!.status, "FAILED")
      assert.strictEqual(yield* Expiry.round("1 hour", all[1_999], true), all[2_500])
      // an open transaction may still give a lower id to a payment that is younger than the expiry
      yield* created(1, "1 minute")
      yield* sql`UPDATE payment SET status = 'COMPLETED'`
      assert.strictEqual(yield* Expiry.round("1 hour", all[2_500], true), all[2_500])
    }))

  it.scoped("a payment whose row is locked waits for a later round, and holds up no other", () =>
    Effect.gen(function*() {
      yield* empty
      const sql = yield* SqlClient.SqlClient
      const orders = yield* created(3, "2 hours")
      const locked = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const holder = yield* sql`SELECT FROM payment WHERE order_id = ${orders[1]!} FOR UPDATE`.pipe(
        Effect.zipRight(Deferred.succeed(locked, undefined)),
        Effect.zipRight(Deferred.await(release)),
        sql.withTransaction,
        Effect.forkScoped
      )
      yield* Deferred.await(locked)
      const statuses = Effect.map(rowsOf(orders), (rows) => rows.map(({ status }) => status))
      assert.isUndefined(yield* Expiry.round("1 hour", undefined, true))
      assert.deepStrictEqual(yield* statuses, ["FAILED", "CREATED", "FAILED"])
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(holder)
      yield* Expiry.round("1 hour", undefined, true)
      assert.deepStrictEqual(yield* statuses, ["FAILED", "FAILED", "FAILED"])
    }))

  it.effect("1,000 settlements race the expiry: one terminal event each, and the late caller learns of the expiry", () =>
    Effect.gen(function*() {
      yield* empty
      const payments = yield* Payments
      let won = 0
      let lost = 0
      for (const race of Arr.range(1, 20)) {
        const orders = yield* created(50, "2 hours")
        // both at once, and the expiry while some calls are answered, some under way and some to come
        const atOnce = race % 2 === 0
        const answered = yield* Deferred.make<void>()
        const calls = Effect.forEach(
          orders,
          (order) =>
            Effect.tap(Effect.either(payments.settle(order, "COMPLETED")), () => Deferred.succeed(answered, undefined)),
          { concurrency: atOnce ? "unbounded" : 8 }
        )
        const expiry = Effect.zipRight(atOnce ? Effect.void : Deferred.await(answered), payments.expire(orders))
        const [expired, answers] = yield* Effect.all([expiry, calls], { concurrency: "unbounded" })
        const rows = yield* rowsOf(orders)
        for (const [i, { events, reason, status }] of rows.entries()) {
          const answer = answers[i]!
          assert.lengthOf(events, 1)
          assert.strictEqual(JSON.parse(events[0]!.payload).status, status)
          assert.strictEqual(expired.includes(orders[i]!), status === "FAILED")
          if (Either.isRight(answer)) {
            won++
            assert.deepStrictEqual([status, reason, events[0]!.reason], ["COMPLETED", null, null])
          } else {
            lost++
            assert.deepStrictEqual([status, reason, events[0]!.reason], ["FAILED", "expired", "expired"])
            assert.deepInclude(answer.left, { _tag: "PaymentAlreadySettled", status: "FAILED", expired: true })
          }
        }
      }
      yield* Effect.logInfo(`1,000 races: the call won ${won}, the expiry ${lost}; one terminal event each`)
      assert.strictEqual(won + lost, 1_000)
      assert.isAbove(won, 0)
      assert.isAbove(lost, 0)
    }))

  it.effect("the record of an expired payment has the header payment-reason, by either delivery", () =>
    Effect.gen(function*() {
      yield* empty
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      const owners = yield* ShardOwners
      const payments = yield* Payments
      const [order, other] = yield* created(2, "2 hours")
      yield* Expiry.round("1 hour", undefined, true)
      yield* sql`UPDATE payment SET status = 'CREATED', reason = NULL WHERE order_id = ${other!}`
      yield* sql`DELETE FROM event WHERE order_id = ${other!}`
      yield* payments.settle(other!, "FAILED")
      const headers = (events: ReadonlyArray<Parameters<typeof record>[0]>) =>
        events.map((event) => [event.key, record(event).headers!["payment-reason"]])
      const both = [[String(order), "expired"], [String(other), undefined]]
      assert.deepStrictEqual(headers((yield* outbox.claim(10)).events), both)

      yield* sql`UPDATE event SET lease_token = NULL, reserved_to = NULL`
      const shards = yield* owners.seize
      const batches = yield* ShardBatches
      const claimed = yield* Effect.forEach(shards, (shard) => batches.claim(shard, 10))
      assert.sameDeepMembers(headers(claimed.flatMap((batch) => Option.getOrThrow(batch).events)), both)
    }))

  it.effect("a round begins where the last one ended, and at the first payment where ids do not rise with time", () =>
    Effect.gen(function*() {
      yield* empty
      const sql = yield* SqlClient.SqlClient
      yield* created(1_000, "2 hours")
      yield* sql`UPDATE payment SET status = 'COMPLETED'`
      const rises = yield* Expiry.make("1 hour")
      yield* rises
      const [low] = yield* created(1, "2 hours")
      yield* sql`UPDATE payment SET id = (SELECT min(id) FROM payment) - 1 WHERE order_id = ${low!}`
      yield* rises
      assert.deepInclude((yield* rowsOf([low!]))[0], { status: "CREATED" })
      // a new process begins at the first payment
      yield* yield* Expiry.make("1 hour")
      assert.deepInclude((yield* rowsOf([low!]))[0], { status: "FAILED" })

      yield* PgTest.asAdministrator(Effect.flatMap(SqlClient.SqlClient, (sql) =>
        Effect.all([
          sql`ALTER TABLE payment ALTER COLUMN id DROP IDENTITY`,
          sql`
            ALTER TABLE payment ALTER COLUMN id TYPE uuid USING 'f0000000-0000-4000-8000-000000000000'::uuid, DROP CONSTRAINT payment_pkey
          `,
          sql`ALTER TABLE payment ALTER COLUMN id SET DEFAULT gen_random_uuid()`
        ]))) // connections that have not prepared statements for the other type
      ;(yield* PostgresPool).renew()
      const anywhere = yield* Expiry.make("1 hour")
      yield* anywhere
      const [other] = yield* created(1, "2 hours").pipe(
        Effect.tap(() => sql`UPDATE payment SET id = '10000000-0000-4000-8000-000000000000' WHERE status = 'CREATED'`)
      )
      yield* anywhere
      assert.deepInclude((yield* rowsOf([other!]))[0], { status: "FAILED" })
    }))
})

it.effect("a round that fails is made again within a second, and the part says why meanwhile", () =>
  Effect.gen(function*() {
    const said: Array<string> = []
    const part = {
      failed: ({ reason, why }: Problem) => void said.push(`${reason}: ${why}`),
      working: () => void said.push("working")
    }
    let away = true
    const round = Effect.suspend(() => away ? Effect.fail(new DatabaseUnavailable({ cause: "away" })) : Effect.void)
    yield* Effect.fork(Expiry.serve(round, part))
    yield* TestClock.adjust("100 millis")
    away = false
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(said, ["postgres: the database is not available: away", "working"])
  }))
