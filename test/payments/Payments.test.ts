import { SqlClient } from "@effect/sql"
import { assert, describe, layer } from "@effect/vitest"
import type { Duration } from "effect"
import { Cause, Data, Deferred, Effect, Exit, FastCheck as fc, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import type { PaymentStatus, TerminalStatus } from "../../src/domain/Payment.js"
import { OrderId } from "../../src/domain/Payment.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import type { Reservation, ReservationResult } from "../../src/payments/Reservation.js"
import * as Locks from "../harness/Locks.js"
import * as PgTest from "../harness/PgTest.js"
import * as Proxy from "../harness/Proxy.js"

const payments = Payments.Default.pipe(
  Layer.provide(PaymentRepo.Default),
  Layer.provide(Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })),
  Layer.provideMerge(OutboxWake.layerLocal)
)

/** The payments of this test's database over connections of their own, with settings of PostgreSQL if need be. */
const over = (
  options: {
    readonly url?: string
    readonly settings?: Record<string, string>
    readonly maxConnections?: number
    readonly connectTimeoutMillis?: number
  }
) =>
  Effect.gen(function*() {
    const url = new URL(options.url ?? (yield* PgTest.DatabaseUrl))
    const settings = Object.entries(options.settings ?? {}).map(([name, value]) => `-c ${name}=${value}`)
    if (settings.length > 0) url.search = `options=${encodeURIComponent(settings.join(" "))}`
    const connections = Postgres.layer({ maxConnections: 5, ...options, url: Redacted.make(url.href) })
    const context = yield* Layer.build(Layer.provideMerge(payments, connections))
    return yield* Effect.provide(
      Effect.all({ payments: Payments, sql: SqlClient.SqlClient }),
      context
    )
  })

let last = 9007199254740993n
const freshOrder = () => OrderId.make(last++)
const reservation = (orderId: OrderId, idempotentKey: string = randomUUID()): Reservation => ({
  orderId,
  idempotentKey,
  traceparent: Option.none()
})
const tags = (decisions: ReadonlyArray<ReservationResult>) => decisions.map((_) => _._tag)

interface EventRow {
  readonly id: string
  readonly order_id: string
  readonly payload: string
  readonly status: string
  readonly topic: string
  readonly traceparent: string | null
}

const eventsOf = (...orders: ReadonlyArray<bigint>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql<EventRow>`
      SELECT id, order_id, payload, status, topic, traceparent FROM event
      WHERE order_id = ANY(${orders}::bigint[]) ORDER BY id
    `)
const paymentsOf = (...orders: ReadonlyArray<bigint>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql<{ readonly order_id: string; readonly status: PaymentStatus; readonly inventory_key: string | null }>`
      SELECT order_id, status, inventory_key FROM payment WHERE order_id = ANY(${orders}::bigint[]) ORDER BY order_id
    `
  )
const statusesOf = (order: bigint) =>
  Effect.map(eventsOf(order), (events) => events.map(({ payload }) => JSON.parse(payload).status))

/** An order with a payment in this state, and the events that led there. */
const given = (status: PaymentStatus) =>
  Effect.gen(function*() {
    const payments = yield* Payments
    const order = freshOrder()
    yield* payments.reserve([reservation(order)])
    if (status !== "CREATED") yield* payments.settle(order, status)
    return order
  })

const body = (order: bigint, status: string) =>
  new RegExp(
    `^\\{"idempotent_key":"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}","order_id":${order},"status":"${status}"\\}$`
  )

class Undone extends Data.TaggedError("Undone") {}

/**
 * Runs `begin` in a transaction that stays open until it is ended or the test is; `finish` is what it does
 * before it is committed.
 */
const transaction = <A, E, B = void, F = never>(
  begin: Effect.Effect<A, E, SqlClient.SqlClient>,
  finish: Effect.Effect<B, F, SqlClient.SqlClient> | undefined = undefined
) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const begun = yield* Deferred.make<void>()
    const end = yield* Deferred.make<void, Undone>()
    const fiber = yield* begin.pipe(
      Effect.zipRight(Deferred.succeed(begun, undefined)),
      Effect.zipRight(Deferred.await(end)),
      Effect.zipRight(finish ?? Effect.void),
      sql.withTransaction,
      Effect.forkScoped
    )
    yield* Effect.raceFirst(Deferred.await(begun), Fiber.join(fiber))
    return {
      commit: Effect.zipRight(Deferred.succeed(end, undefined), Fiber.join(fiber)),
      rollback: Effect.zipRight(Deferred.fail(end, new Undone()), Effect.exit(Fiber.join(fiber)))
    }
  })

const soon = <A, E, R>(effect: Effect.Effect<A, E, R>, limit: Duration.DurationInput) =>
  Effect.timeoutFail(effect, { duration: limit, onTimeout: () => new Cause.TimeoutException("took too long") })

/**
 * What may become of reservations, told from the keys of orders before and after, by whatever way they were decided:
 * each new payment was created by exactly one of them, and every other was in the way of what is there now.
 */
const check = (
  before: ReadonlyMap<bigint, string>,
  after: ReadonlyMap<bigint, string>,
  decided: ReadonlyArray<readonly [Reservation, ReservationResult]>
) => {
  const orderOf = new Map([...after].map(([order, key]) => [key, order]))
  assert.strictEqual(orderOf.size, after.size, "a key has two payments")
  const creators = new Map<bigint, string>()
  for (const [{ idempotentKey, orderId }, decision] of decided) {
    const by = orderOf.get(idempotentKey)
    const keyTaken = by !== undefined && by !== orderId
    const orderTaken = after.has(orderId) && after.get(orderId) !== idempotentKey
    // of two that are true either may be said
    const allowed: ReadonlyArray<unknown> = keyTaken || orderTaken
      ? [...keyTaken ? [{ _tag: "KeyTaken", by }] : [], ...orderTaken ? [{ _tag: "OrderTaken" }] : []]
      : [{ _tag: before.has(orderId) || creators.has(orderId) ? "Repeated" : "Created" }]
    assert.deepInclude(allowed, decision)
    if (decision._tag === "Created") creators.set(orderId, idempotentKey)
  }
  assert.deepStrictEqual(
    [...creators].sort(),
    [...after].filter(([order]) => !before.has(order)).sort()
  )
}

layer(Layer.provideMerge(payments, PgTest.layer), { timeout: "60 seconds", excludeTestServices: true })(
  "Payments",
  (it) => {
    describe("reserve", () => {
      it.effect("creates the payment with its event, and wakes the relay", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const wake = yield* OutboxWake
          const one = reservation(freshOrder())
          assert.deepStrictEqual(yield* payments.reserve([one]), [{ _tag: "Created" }])
          yield* soon(wake.woken, "4 seconds")
          assert.deepStrictEqual(yield* paymentsOf(one.orderId), [
            { order_id: String(one.orderId), status: "CREATED", inventory_key: one.idempotentKey }
          ])
          const [event, ...more] = yield* eventsOf(one.orderId)
          assert.lengthOf(more, 0)
          assert.match(event!.payload, body(one.orderId, "CREATED"))
          assert.notInclude(event!.payload, one.idempotentKey)
          assert.deepStrictEqual([event!.topic, event!.status], ["payment", "WAIT"])
          const payment = yield* payments.get(one.orderId)
          assert.strictEqual(payment.status, "CREATED")
          assert.instanceOf(payment.createdAt, Date)
        }))

      it.effect("the same record, the same order, the same key: each gets its own result", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const [order, other] = [freshOrder(), freshOrder()]
          const first = reservation(order)
          yield* payments.reserve([first])
          assert.deepStrictEqual(yield* payments.reserve([first]), [{ _tag: "Repeated" }])
          assert.deepStrictEqual(yield* payments.reserve([reservation(order)]), [{ _tag: "OrderTaken" }])
          assert.deepStrictEqual(yield* payments.reserve([reservation(other, first.idempotentKey)]), [
            { _tag: "KeyTaken", by: order }
          ])
          assert.lengthOf(yield* paymentsOf(order, other), 1)
          assert.lengthOf(yield* eventsOf(order, other), 1)
          assert.deepStrictEqual(yield* payments.reserve([]), [])
        }))

      it.effect("all of them in one batch, in their order", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const [order, other] = [freshOrder(), freshOrder()]
          const [key, free] = [randomUUID(), randomUUID()]
          const batch = [
            reservation(order, key),
            reservation(order, key),
            reservation(order),
            reservation(other, key),
            reservation(other, free)
          ]
          assert.deepStrictEqual(yield* payments.reserve(batch), [
            { _tag: "Created" },
            { _tag: "Repeated" },
            { _tag: "OrderTaken" },
            { _tag: "KeyTaken", by: order },
            { _tag: "Created" }
          ])
        }))

      it.effect("a reservation behind a repeat with the same order in its batch gets its payment", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const [order, other] = [freshOrder(), freshOrder()]
          yield* payments.reserve([reservation(order)])
          const key = randomUUID()
          assert.deepStrictEqual(tags(yield* payments.reserve([reservation(order, key), reservation(other, key)])), [
            "OrderTaken",
            "Created"
          ])
          assert.lengthOf(yield* eventsOf(other), 1)
        }))

      it.effect("a settled order is not reserved again", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const order = yield* given("FAILED")
          assert.deepStrictEqual(tags(yield* payments.reserve([reservation(order)])), ["OrderTaken"])
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED", "FAILED"])
        }))

      it.effect("a payment without a key, as the Go service wrote it, takes its order", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const sql = yield* SqlClient.SqlClient
          const order = freshOrder()
          yield* sql`INSERT INTO payment (order_id, status) VALUES (${order}, 'CREATED')`
          assert.deepStrictEqual(tags(yield* payments.reserve([reservation(order), reservation(order)])), [
            "OrderTaken",
            "OrderTaken"
          ])
          assert.lengthOf(yield* eventsOf(order), 0)
        }))

      it.effect("any batches over few orders and keys: as the model says", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const runtime = yield* Effect.runtime<SqlClient.SqlClient>()
          const index = fc.nat({ max: 4 })
          const batches = fc.array(fc.array(fc.tuple(index, index), { minLength: 1, maxLength: 8 }), {
            minLength: 1,
            maxLength: 3
          })
          const run = (batches: ReadonlyArray<ReadonlyArray<readonly [number, number]>>) =>
            Effect.gen(function*() {
              const orders = Array.from({ length: 5 }, freshOrder)
              const keys = orders.map(() => randomUUID())
              const held = Effect.map(
                paymentsOf(...orders),
                (rows) => new Map(rows.map((row) => [BigInt(row.order_id), row.inventory_key!]))
              )
              for (const batch of batches) {
                const reservations = batch.map(([order, key]) => reservation(orders[order]!, keys[key]))
                const before = yield* held
                const decisions = yield* payments.reserve(reservations)
                const after = yield* held
                check(before, after, reservations.map((_, i) => [_, decisions[i]!]))
                // the first in line is never in the way of those behind it
                const [first] = reservations
                if (![...before].some(([order, key]) => order === first!.orderId || key === first!.idempotentKey)) {
                  assert.deepStrictEqual(decisions[0], { _tag: "Created" })
                }
              }
              const created = yield* held
              const events = yield* eventsOf(...orders)
              assert.sameMembers(events.map((_) => BigInt(_.order_id)), [...created.keys()])
            })
          yield* Effect.tryPromise(() =>
            fc.assert(
              fc.asyncProperty(batches, (batches) => Effect.runPromise(Effect.provide(run(batches), runtime))),
              { numRuns: 60 }
            )
          )
        }))

      it.scoped("concurrent reservations of the same orders and keys: one payment and one event each, and no deadlock", () =>
        Effect.gen(function*() {
          // deadlocks are found by time: found soon, the test takes less of it
          const { payments } = yield* over({ settings: { deadlock_timeout: "20ms" }, maxConnections: 8 })
          const orders = Array.from({ length: 12 }, freshOrder)
          const keys = orders.map(() => randomUUID())
          const pick = <A>(all: ReadonlyArray<A>) => all[Math.floor(Math.random() * all.length)]!
          const batch = () => Array.from({ length: 8 }, () => reservation(pick(orders), pick(keys)))
          const lanes = Array.from({ length: 4 }, () => Array.from({ length: 25 }, batch))
          const decided = yield* Effect.forEach(
            lanes,
            (batches) => Effect.forEach(batches, (batch) => Effect.map(payments.reserve(batch), (_) => tags(_))),
            { concurrency: "unbounded" }
          )
          const rows = yield* paymentsOf(...orders)
          const created = decided.flat(2).filter((tag) => tag === "Created").length
          assert.strictEqual(created, rows.length)
          assert.strictEqual(new Set(rows.map((_) => _.order_id)).size, rows.length)
          assert.strictEqual(new Set(rows.map((_) => _.inventory_key)).size, rows.length)
          const events = yield* eventsOf(...orders)
          assert.sameMembers(events.map((_) => _.order_id), rows.map((_) => _.order_id))
          assert.strictEqual(new Set(events.map((_) => JSON.parse(_.payload).idempotent_key)).size, events.length)
        }))

      it.scoped("the ids of an order's events rise, also when it is settled while others are reserved", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const orders = Array.from({ length: 60 }, freshOrder)
          const settle = (order: OrderId) =>
            payments.settle(order, "COMPLETED").pipe(
              Effect.retry({
                while: (error) => error._tag === "PaymentNotFound",
                schedule: Schedule.spaced("1 millis")
              })
            )
          yield* Effect.all([
            Effect.forEach(orders, (order) => payments.reserve([reservation(order)]), { concurrency: 4 }),
            Effect.forEach(orders, settle, { concurrency: 4 })
          ], { concurrency: "unbounded" })
          const events = yield* eventsOf(...orders)
          assert.lengthOf(events, 120)
          for (const order of orders) {
            const own = events.filter((_) => _.order_id === String(order))
            assert.deepStrictEqual(own.map(({ payload }) => JSON.parse(payload).status), ["CREATED", "COMPLETED"])
          }
        }))

      it.effect("1,000 records in one call", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const orders = Array.from({ length: 1_000 }, freshOrder)
          const batch = [...orders].reverse().map((order) => reservation(order))
          assert.deepStrictEqual(new Set(tags(yield* payments.reserve(batch))), new Set(["Created"]))
          assert.deepStrictEqual(new Set(tags(yield* payments.reserve(batch))), new Set(["Repeated"]))
          const events = yield* eventsOf(...orders)
          assert.strictEqual(new Set(events.map((_) => _.order_id)).size, 1_000)
          assert.lengthOf(events, 1_000)
          for (const { order_id, payload } of events) assert.match(payload, body(BigInt(order_id), "CREATED"))
        }))

      it.effect("the record's trace goes with the event, else the span that runs", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
          const [own, none] = [freshOrder(), freshOrder()]
          const reserve = (orders: ReadonlyArray<OrderId>) =>
            payments.reserve(orders.map((order) => ({
              ...reservation(order),
              traceparent: order === none ? Option.none() : Option.some(traceparent)
            })))
          yield* Effect.withSpan(reserve([own, none]), "caller")
          const [first, second] = yield* eventsOf(own, none)
          assert.match(first!.traceparent!, new RegExp(`^${traceparent.slice(0, 36)}[0-9a-f]{16}-01$`))
          assert.match(second!.traceparent!, /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/)
          const untraced = freshOrder()
          yield* Effect.withTracerEnabled(reserve([untraced]), false)
          const [unchanged] = yield* eventsOf(untraced)
          assert.strictEqual(unchanged!.traceparent, traceparent)
        }))
    })

    describe("settle", () => {
      const asked = (order: OrderId, outcome: TerminalStatus) =>
        Effect.flatMap(Payments, (payments) =>
          payments.settle(order, outcome).pipe(
            Effect.as("OK"),
            Effect.catchAll((error) =>
              Effect.succeed(error._tag === "PaymentAlreadySettled" ? `is ${error.status}` : error._tag)
            )
          ))

      for (
        const [status, outcome, answer, events] of [
          ["CREATED", "COMPLETED", "OK", ["CREATED", "COMPLETED"]],
          ["CREATED", "FAILED", "OK", ["CREATED", "FAILED"]],
          ["COMPLETED", "COMPLETED", "OK", ["CREATED", "COMPLETED"]],
          ["COMPLETED", "FAILED", "is COMPLETED", ["CREATED", "COMPLETED"]],
          ["FAILED", "COMPLETED", "is FAILED", ["CREATED", "FAILED"]],
          ["FAILED", "FAILED", "OK", ["CREATED", "FAILED"]]
        ] as const
      ) {
        it.effect(`${status}, asked for ${outcome}: ${answer}, and an event only when the status changed`, () =>
          Effect.gen(function*() {
            const payments = yield* Payments
            const order = yield* given(status)
            const before = yield* payments.get(order)
            assert.strictEqual(yield* asked(order, outcome), answer)
            const after = yield* payments.get(order)
            assert.strictEqual(after.status, events[1])
            assert.deepStrictEqual(yield* statusesOf(order), [...events])
            const moved = status !== events[1]
            assert.strictEqual(after.updatedAt > before.updatedAt, moved)
            assert.deepStrictEqual(after.createdAt, before.createdAt)
            const [, event] = yield* eventsOf(order)
            assert.match(event!.payload, body(order, events[1]))
          }))
      }

      it.effect("no payment: not found, and nothing written", () =>
        Effect.gen(function*() {
          const order = freshOrder()
          assert.strictEqual(yield* asked(order, "COMPLETED"), "PaymentNotFound")
          assert.lengthOf(yield* eventsOf(order), 0)
          const error = yield* Effect.flip(Effect.flatMap(Payments, (payments) => payments.get(order)))
          assert.strictEqual(error._tag, "PaymentNotFound")
        }))

      it.effect("the current span is stored with the event", () =>
        Effect.gen(function*() {
          const order = yield* given("CREATED")
          const traceId = yield* Effect.flatMap(
            Effect.currentSpan,
            (span) => Effect.as(asked(order, "FAILED"), span.traceId)
          ).pipe(
            Effect.withSpan("call", { root: true })
          )
          const [, event] = yield* eventsOf(order)
          assert.match(event!.traceparent!, new RegExp(`^00-${traceId}-[0-9a-f]{16}-01$`))
        }))

      it.effect("concurrent opposite settlements: one succeeds, the other fails, one event", () =>
        Effect.gen(function*() {
          for (let round = 0; round < 20; round++) {
            const order = yield* given("CREATED")
            const calls: ReadonlyArray<TerminalStatus> = ["COMPLETED", "FAILED", "COMPLETED", "FAILED"]
            const answers = yield* Effect.forEach(calls, (outcome) => asked(order, outcome), {
              concurrency: "unbounded"
            })
            const [, winner, ...more] = yield* statusesOf(order)
            assert.lengthOf(more, 0)
            assert.deepStrictEqual(answers, calls.map((outcome) => outcome === winner ? "OK" : `is ${winner}`))
          }
        }))

      it.scoped("waits for a running settlement, and answers by the status that it leaves", () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const cases = [
            ["SELECT FROM payment WHERE order_id = $1 FOR UPDATE", "commit", "OK", "COMPLETED"],
            ["UPDATE payment SET status = 'FAILED' WHERE order_id = $1", "commit", "is FAILED", "FAILED"],
            ["UPDATE payment SET status = 'FAILED' WHERE order_id = $1", "rollback", "OK", "COMPLETED"],
            // touched by something else, and still CREATED
            ["UPDATE payment SET created_at = created_at WHERE order_id = $1", "commit", "OK", "COMPLETED"]
          ] as const
          for (const [statement, end, answer, status] of cases) {
            const order = yield* given("CREATED")
            const other = yield* transaction(sql.unsafe(statement, [order]))
            const call = yield* Effect.fork(asked(order, "COMPLETED"))
            yield* Locks.waiting(1)
            yield* other[end]
            assert.strictEqual(yield* Fiber.join(call), answer)
            assert.strictEqual((yield* paymentsOf(order))[0]!.status, status)
            assert.lengthOf(yield* eventsOf(order), answer === "OK" ? 2 : 1)
          }
        }))
    })

    describe("when the database will not", () => {
      it.effect("a commit that fails is a failure, and leaves neither payment nor event", () =>
        Effect.gen(function*() {
          const payments = yield* Payments
          const sql = yield* SqlClient.SqlClient
          const order = yield* given("CREATED")
          const fresh = reservation(freshOrder())
          yield* Effect.acquireUseRelease(
            sql.unsafe(`
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON payment
              DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()
          `),
            () =>
              Effect.gen(function*() {
                const errors = [
                  yield* Effect.flip(payments.reserve([fresh])),
                  yield* Effect.flip(payments.settle(order, "COMPLETED"))
                ]
                assert.deepStrictEqual(errors.map((_) => _._tag), ["DatabaseUnavailable", "DatabaseUnavailable"])
              }),
            () => Effect.orDie(sql.unsafe("DROP TRIGGER refuse ON payment; DROP FUNCTION refuse()"))
          )
          assert.deepStrictEqual((yield* paymentsOf(order, fresh.orderId)).map((_) => _.status), ["CREATED"])
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED"])
          assert.lengthOf(yield* eventsOf(fresh.orderId), 0)
          assert.deepStrictEqual(tags(yield* payments.reserve([fresh])), ["Created"])
          yield* payments.settle(order, "COMPLETED")
        }))

      it.scoped("a lock time-out is attempted again", () =>
        Effect.gen(function*() {
          const { payments } = yield* over({ settings: { lock_timeout: "40ms" } })
          const sql = yield* SqlClient.SqlClient
          const order = yield* given("CREATED")
          const other = yield* transaction(sql`SELECT FROM payment WHERE order_id = ${order} FOR UPDATE`)
          const call = yield* Effect.fork(payments.settle(order, "COMPLETED"))
          const [first] = yield* Locks.waiting(1)
          yield* Effect.repeat(Locks.waiting(1), { until: ([began]) => began !== first })
          yield* other.commit
          yield* Fiber.join(call)
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED", "COMPLETED"])
        }))

      it.scoped("the victim of a deadlock is attempted again", () =>
        Effect.gen(function*() {
          const { payments } = yield* over({ settings: { deadlock_timeout: "500ms" } })
          const sql = yield* SqlClient.SqlClient
          const [low, high] = [freshOrder(), freshOrder()]
          const insert = (order: OrderId) => sql`INSERT INTO payment (order_id, status) VALUES (${order}, 'CREATED')`
          // waits longer than the other, so that the other is the one to find the deadlock
          const rival = yield* transaction(
            Effect.zipRight(sql`SET LOCAL deadlock_timeout = '30s'`, insert(high)),
            Effect.zipRight(insert(low), new Undone())
          )
          const call = yield* Effect.fork(payments.reserve([reservation(low), reservation(high)]))
          yield* Locks.waiting(1)
          assert.strictEqual((yield* Effect.flip(rival.commit))._tag, "Undone")
          assert.deepStrictEqual(tags(yield* Fiber.join(call)), ["Created", "Created"])
          assert.lengthOf(yield* eventsOf(low, high), 2)
        }))

      it.scoped("serialization failures are attempted again", () =>
        Effect.gen(function*() {
          const { payments } = yield* over({ settings: { default_transaction_isolation: "serializable" } })
          const sql = yield* SqlClient.SqlClient
          const order = yield* given("CREATED")
          const other = yield* transaction(
            sql`UPDATE payment SET updated_at = clock_timestamp() WHERE order_id = ${order}`
          )
          const call = yield* Effect.fork(payments.settle(order, "COMPLETED"))
          yield* Locks.waiting(1)
          // its snapshot is older than this commit
          yield* other.commit
          yield* Fiber.join(call)
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED", "COMPLETED"])
        }))

      it.scoped("away: DatabaseUnavailable within the limit, and the pool recovers", () =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
          const { payments } = yield* over({ url: proxy.url })
          const order = yield* given("CREATED")
          yield* Effect.forEach(Array.from({ length: 10 }), () => payments.get(order), { concurrency: 10 })
          yield* proxy.set("refuse")
          const errors = yield* soon(
            Effect.all([
              Effect.flip(payments.get(order)),
              Effect.flip(payments.settle(order, "COMPLETED")),
              Effect.flip(payments.reserve([reservation(freshOrder())])),
              Effect.flip(payments.ping)
            ]),
            "2 seconds"
          )
          assert.deepStrictEqual(errors.map((_) => _._tag), errors.map(() => "DatabaseUnavailable"))
          yield* proxy.set("pass")
          yield* soon(payments.settle(order, "COMPLETED"), "4 seconds")
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED", "COMPLETED"])
        }))

      it.scoped("cut while a statement runs: DatabaseUnavailable, and the next call works", () =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
          const { payments } = yield* over({ url: proxy.url, maxConnections: 2 })
          const sql = yield* SqlClient.SqlClient
          const order = yield* given("CREATED")
          const other = yield* transaction(sql`SELECT FROM payment WHERE order_id = ${order} FOR UPDATE`)
          const calls = yield* Effect.forEach([1, 2], () => Effect.fork(Effect.flip(payments.settle(order, "FAILED"))))
          yield* Locks.waiting(2)
          yield* proxy.cut
          for (const call of calls) {
            assert.strictEqual((yield* soon(Fiber.join(call), "4 seconds"))._tag, "DatabaseUnavailable")
          }
          yield* soon(payments.ping, "4 seconds")
          yield* other.commit
        }))

      it.scoped("stalled: DatabaseUnavailable after the limit, and the connection is not handed to the next", () =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
          const { payments, sql } = yield* over({ url: proxy.url, maxConnections: 2, connectTimeoutMillis: 2_000 })
          const order = yield* given("CREATED")
          yield* payments.ping
          const held = yield* proxy.accepted
          yield* proxy.set("stall")
          const error = yield* soon(Effect.flip(Postgres.run("100 millis")(sql`SELECT 1 AS stale`)), "4 seconds")
          assert.strictEqual(error._tag, "DatabaseUnavailable")
          yield* proxy.set("pass")
          const rows = yield* soon(Postgres.run("4 seconds")(sql`SELECT 2 AS fresh`), "4 seconds")
          assert.deepStrictEqual(rows, [{ fresh: 2 }])
          yield* soon(payments.settle(order, "COMPLETED"), "4 seconds")
          assert.isAbove(yield* proxy.accepted, held)
        }))

      it.scoped("all connections are cut without an error: the pool opens new ones", () =>
        Effect.gen(function*() {
          const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
          const { sql } = yield* over({ url: proxy.url, maxConnections: 2, connectTimeoutMillis: 2_000 })
          const ask = Postgres.run("3 seconds")(sql`SELECT 1`)
          yield* Effect.all([ask, ask], { concurrency: 2 })
          yield* proxy.lose
          const exits = yield* Effect.all([Effect.exit(ask), Effect.exit(ask)], { concurrency: 2 })
          assert.isTrue(exits.every(Exit.isFailure))
          yield* soon(Effect.retry(ask, Schedule.spaced("20 millis")), "20 seconds")
          yield* Effect.all([ask, ask, ask, ask], { concurrency: 4 })
        }))

      it.scoped("no connection free: DatabaseUnavailable and no hang, and it works when one is", () =>
        Effect.gen(function*() {
          const { payments, sql } = yield* over({ maxConnections: 2, connectTimeoutMillis: 2_000 })
          const order = yield* given("CREATED")
          const busy = yield* Effect.forEach(
            [1, 2],
            () => Effect.provideService(transaction(sql`SELECT 1`), SqlClient.SqlClient, sql)
          )
          const error = yield* soon(Effect.flip(payments.settle(order, "COMPLETED")), "8 seconds")
          assert.strictEqual(error._tag, "DatabaseUnavailable")
          yield* Effect.forEach(busy, ({ commit }) => commit)
          yield* soon(payments.settle(order, "COMPLETED"), "4 seconds")
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED", "COMPLETED"])
        }))

      it.scoped("a call that is interrupted leaves no transaction open", () =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const payments = yield* Payments
          const order = yield* given("CREATED")
          const other = yield* transaction(sql`SELECT FROM payment WHERE order_id = ${order} FOR UPDATE`)
          const call = yield* Effect.fork(payments.settle(order, "COMPLETED"))
          yield* Locks.waiting(1)
          yield* soon(Fiber.interrupt(call), "4 seconds")
          yield* Locks.waiting(0)
          yield* other.commit
          assert.deepStrictEqual(yield* statusesOf(order), ["CREATED"])
          yield* payments.settle(order, "FAILED")
        }))
    })
  }
)
