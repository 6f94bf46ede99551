import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option, Queue, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import type { TerminalStatus } from "../../src/domain/Payment.js"
import { OrderId } from "../../src/domain/Payment.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import * as PgTest from "../harness/PgTest.js"

let last = 9007199254740993n

/** Orders whose payments are CREATED. */
const created = Effect.fnUntraced(function*(count: number) {
  const sql = yield* SqlClient.SqlClient
  const orders = Array.from({ length: count }, () => OrderId.make(last++))
  yield* sql`
    INSERT INTO payment (order_id, status) SELECT order_id, 'CREATED' FROM unnest(${orders}::bigint[]) AS t (order_id)
  `
  return orders
})

const statusesOf = (orders: ReadonlyArray<OrderId>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ readonly status: string }>`
        SELECT status FROM payment WHERE order_id = ANY(${orders}::bigint[]) ORDER BY order_id
      `,
      (rows) => rows.map((_) => _.status)
    ))

const eventsOf = (orders: ReadonlyArray<OrderId>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql<{ readonly order_id: string; readonly payload: string; readonly traceparent: string | null }>`
      SELECT order_id, payload, traceparent FROM event WHERE order_id = ANY(${orders}::bigint[]) ORDER BY order_id, id
    `
  )
const toldOf = (orders: ReadonlyArray<OrderId>) =>
  Effect.map(eventsOf(orders), (events) => events.map(({ payload }) => JSON.parse(payload).status))

const outbox = Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })

type SettleAll = PaymentRepo["settleAll"]

/** Payments over this repository of statements, in which `settleAll` goes by way of `instead`. */
const withSettleAll = (instead: (real: SettleAll) => SettleAll) =>
  Payments.Default.pipe(
    Layer.provide(
      Layer.effect(
        PaymentRepo,
        Effect.map(PaymentRepo, (repo) => PaymentRepo.make({ ...repo, settleAll: instead(repo.settleAll) }))
      )
    ),
    Layer.provide(PaymentRepo.Default),
    Layer.provide(outbox),
    Layer.provideMerge(OutboxWake.layerLocal)
  )

/** Payments whose groups are told as they are sent, and wait there until they are let go. */
const gated = Effect.gen(function*() {
  const sent = yield* Queue.unbounded<number>()
  const gate = yield* Deferred.make<void>()
  const context = yield* Layer.build(
    withSettleAll((real) => (settlements) =>
      Queue.offer(sent, settlements.length).pipe(
        Effect.zipRight(Deferred.await(gate)),
        Effect.zipRight(real(settlements))
      )
    )
  )
  const { payments, wake } = yield* Effect.provide(Effect.all({ payments: Payments, wake: OutboxWake }), context)

  /** Calls that keep busy as many groups as may be under way: what is called now gathers. */
  const occupy = Effect.gen(function*() {
    const calls = []
    for (const order of yield* created(2)) {
      calls.push(yield* Effect.fork(payments.settle(order, "COMPLETED")))
      assert.strictEqual(yield* soon(Queue.take(sent)), 1)
    }
    return calls
  })

  return { payments, wake, sent, occupy, open: Deferred.succeed(gate, undefined) }
})

const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.timeoutFail(effect, { duration: "30 seconds", onTimeout: () => new Cause.TimeoutException("took too long") })

/** Calls in the order given, all under way when this ends. */
const callAll = (payments: Payments, calls: ReadonlyArray<readonly [OrderId, TerminalStatus]>) =>
  Effect.forEach(
    calls,
    ([order, outcome]) => Effect.zipLeft(Effect.fork(answer(payments, order, outcome)), Effect.yieldNow())
  )

const answer = (payments: Payments, order: OrderId, outcome: TerminalStatus) =>
  payments.settle(order, outcome).pipe(
    Effect.as("OK"),
    Effect.catchAll((error) =>
      Effect.succeed(error._tag === "PaymentAlreadySettled" ? `is ${error.status}` : error._tag)
    )
  )

layer(PgTest.layerService, { timeout: "60 seconds", excludeTestServices: true })("Settlements", (it) => {
  it.scoped("calls that wait together are one statement, and each gets its own answer", () =>
    Effect.gen(function*() {
      const { occupy, open, payments, sent } = yield* gated
      const orders = yield* created(40)
      const settledBefore = orders.slice(0, 2)
      const sql = yield* SqlClient.SqlClient
      yield* sql`UPDATE payment SET status = 'FAILED' WHERE order_id = ANY(${settledBefore}::bigint[])`
      yield* occupy
      const calls = yield* callAll(payments, [
        [OrderId.make(last++), "COMPLETED"],
        [orders[0]!, "COMPLETED"],
        [orders[1]!, "FAILED"],
        ...orders.slice(2).map((order, i) => [order, i % 2 === 0 ? "COMPLETED" : "FAILED"] as const)
      ])
      yield* open
      const answers = yield* soon(Effect.forEach(calls, Fiber.join))
      assert.strictEqual(yield* soon(Queue.take(sent)), 41)
      assert.deepStrictEqual(answers, ["PaymentNotFound", "is FAILED", "OK", ...orders.slice(2).map(() => "OK")])
      const expected = orders.slice(2).map((_, i) => i % 2 === 0 ? "COMPLETED" : "FAILED")
      assert.deepStrictEqual(yield* statusesOf(orders), ["FAILED", "FAILED", ...expected])
      assert.deepStrictEqual(yield* toldOf(orders), expected)
    }))

  it.scoped("more calls than fit into the running groups are all answered", () =>
    Effect.gen(function*() {
      const { occupy, open, payments, sent } = yield* gated
      const orders = yield* created(1_600)
      yield* occupy
      const calls = yield* callAll(payments, orders.map((order) => [order, "COMPLETED"] as const))
      yield* open
      assert.deepStrictEqual(new Set(yield* soon(Effect.forEach(calls, Fiber.join))), new Set(["OK"]))
      assert.deepStrictEqual([...(yield* Queue.takeAll(sent))], [500, 500, 500, 100])
    }))

  it.scoped("a call that is alone is sent at once", () =>
    Effect.gen(function*() {
      const { open, payments, sent } = yield* gated
      const [order] = yield* created(1)
      const call = yield* Effect.fork(payments.settle(order!, "COMPLETED"))
      assert.strictEqual(yield* soon(Queue.take(sent)), 1)
      yield* open
      yield* soon(Fiber.join(call))
    }))

  it.scoped("each event has the trace of its own call", () =>
    Effect.gen(function*() {
      const { occupy, open, payments } = yield* gated
      const orders = yield* created(5)
      yield* occupy
      const calls = yield* Effect.forEach(orders, (order) =>
        Effect.flatMap(Effect.currentSpan, ({ traceId }) =>
          Effect.as(payments.settle(order, "FAILED"), traceId)).pipe(
            Effect.withSpan("call", { root: true }),
            Effect.fork
          ))
      yield* open
      const traces = yield* soon(Effect.forEach(calls, Fiber.join))
      const events = yield* eventsOf(orders)
      assert.deepStrictEqual(
        events.map((_) =>
          _.traceparent!.slice(3, 35)
        ),
        traces
      )
    }))

  it.scoped("the same order in one group: the first call settles it, the others get its status, one event", () =>
    Effect.gen(function*() {
      const { occupy, open, payments, sent } = yield* gated
      const [one, two] = yield* created(2)
      yield* occupy
      const calls = yield* callAll(payments, [
        [one!, "FAILED"],
        [one!, "COMPLETED"],
        [two!, "COMPLETED"],
        [one!, "FAILED"],
        [two!, "COMPLETED"],
        [two!, "FAILED"]
      ])
      yield* open
      assert.deepStrictEqual(yield* soon(Effect.forEach(calls, Fiber.join)), [
        "OK",
        "is FAILED",
        "OK",
        "OK",
        "OK",
        "is COMPLETED"
      ])
      assert.strictEqual(yield* Queue.take(sent), 2)
      assert.deepStrictEqual(yield* toldOf([one!, two!]), ["FAILED", "COMPLETED"])
    }))

  it.scoped("interrupted before its group is sent: left out of it; afterwards: committed with it", () =>
    Effect.gen(function*() {
      const { occupy, open, payments, sent } = yield* gated
      const busy = yield* occupy
      const orders = yield* created(3)
      const [gone] = yield* callAll(payments, [[orders[0]!, "COMPLETED"]])
      const stays = yield* callAll(payments, [[orders[1]!, "COMPLETED"], [orders[2]!, "FAILED"]])
      yield* soon(Fiber.interrupt(gone!))
      yield* soon(Fiber.interrupt(busy[0]!))
      yield* open
      assert.deepStrictEqual(yield* soon(Effect.forEach(stays, Fiber.join)), ["OK", "OK"])
      assert.strictEqual(yield* Queue.take(sent), 2)
      assert.deepStrictEqual(yield* statusesOf(orders), ["CREATED", "COMPLETED", "FAILED"])
      assert.lengthOf(yield* eventsOf(orders.slice(0, 1)), 0)
    }))

  it.scoped("a settlement whose caller was interrupted is committed, and wakes the relay", () =>
    Effect.gen(function*() {
      const { open, payments, sent, wake } = yield* gated
      const [order] = yield* created(1)
      const call = yield* Effect.fork(payments.settle(order!, "COMPLETED"))
      yield* soon(Queue.take(sent))
      yield* soon(Fiber.interrupt(call))
      yield* open
      yield* soon(wake.woken)
      assert.deepStrictEqual(yield* statusesOf([order!]), ["COMPLETED"])
      assert.deepStrictEqual(yield* toldOf([order!]), ["COMPLETED"])
    }))

  it.scoped("a group that fails fails for all in it, and the next one works", () =>
    Effect.gen(function*() {
      const failures: Array<Effect.Effect<never, Postgres.DatabaseUnavailable>> = [
        Effect.fail(new Postgres.DatabaseUnavailable({ cause: new Error("away") })),
        Effect.die("a bug")
      ]
      for (const failure of failures) {
        const entered = yield* Queue.unbounded<void>()
        const gate = yield* Deferred.make<void>()
        let broken = true
        const context = yield* Layer.build(withSettleAll((real) => (settlements) =>
          Queue.offer(entered, undefined).pipe(
            Effect.zipRight(Deferred.await(gate)),
            Effect.zipRight(Effect.suspend(() => broken ? failure : real(settlements)))
          )
        ))
        const payments = yield* Effect.provide(Payments, context)
        const orders = yield* created(10)
        const calls = []
        for (const order of orders) calls.push(yield* Effect.fork(payments.settle(order, "COMPLETED")))
        yield* soon(Queue.take(entered))
        yield* Deferred.succeed(gate, undefined)
        const exits = yield* soon(Effect.forEach(calls, Fiber.await))
        const expected = yield* Effect.exit(failure)
        const kinds = exits.map((exit) => Exit.isFailure(exit) && Cause.isDie(exit.cause) ? "bug" : "unavailable")
        assert.isTrue(exits.every(Exit.isFailure))
        assert.deepStrictEqual(
          new Set(kinds),
          new Set([Exit.isFailure(expected) && Cause.isDie(expected.cause) ? "bug" : "unavailable"])
        )
        broken = false
        yield* soon(payments.settle(orders[0]!, "COMPLETED"))
        assert.deepStrictEqual(yield* toldOf(orders), ["COMPLETED"])
      }
    }))

  it.scoped("a locked row delays only its own call", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { occupy, open, payments } = yield* gated
      const orders = yield* created(20)
      const held = yield* Deferred.make<void>()
      const end = yield* Deferred.make<void>()
      const holder = yield* sql`UPDATE payment SET status = 'FAILED' WHERE order_id = ${orders[3]!}`.pipe(
        Effect.zipRight(Deferred.succeed(held, undefined)),
        Effect.zipRight(Deferred.await(end)),
        sql.withTransaction,
        Effect.forkScoped
      )
      yield* soon(Deferred.await(held))
      yield* occupy
      const calls = yield* callAll(payments, orders.map((order) => [order, "COMPLETED"] as const))
      const [late] = calls.splice(3, 1)
      yield* open
      const answers = yield* soon(Effect.forEach(calls, Fiber.join))
      assert.deepStrictEqual(new Set(answers), new Set(["OK"]))
      assert.isTrue(Option.isNone(yield* Fiber.poll(late!)))
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(holder)
      assert.strictEqual(yield* soon(Fiber.join(late!)), "is FAILED")
      assert.lengthOf(yield* eventsOf(orders), 19)
    }))

  it.scoped("a transaction that locks the same rows in another order: both finish", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { occupy, open, payments } = yield* gated
      const [low, high] = yield* created(2)
      const lock = (order: OrderId) => sql`SELECT FROM payment WHERE order_id = ${order} FOR UPDATE`
      const held = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const rival = yield* lock(high!).pipe(
        Effect.zipRight(Deferred.succeed(held, undefined)),
        Effect.zipRight(Deferred.await(goOn)),
        Effect.zipRight(lock(low!)),
        sql.withTransaction,
        Effect.forkScoped
      )
      yield* soon(Deferred.await(held))
      yield* occupy
      const [first, second] = yield* callAll(payments, [[low!, "COMPLETED"], [high!, "COMPLETED"]])
      yield* open
      // has the low row only when its group waits for no other
      assert.strictEqual(yield* soon(Fiber.join(first!)), "OK")
      yield* Deferred.succeed(goOn, undefined)
      yield* soon(Fiber.join(rival))
      assert.strictEqual(yield* soon(Fiber.join(second!)), "OK")
    }))

  it.scoped("groups of several processes and reservations over the same orders: one terminal status, one event", () =>
    Effect.gen(function*() {
      const url = Redacted.make(yield* PgTest.DatabaseUrl)
      const build = Layer.fresh(withSettleAll((real) => real)).pipe(
        Layer.provide(Layer.fresh(Postgres.layer({ url, maxConnections: 8, connectTimeoutMillis: 20_000 }))),
        Layer.build,
        Effect.flatMap((context) => Effect.provide(Payments, context))
      )
      const instances = [yield* build, yield* build] as const
      const orders = yield* created(60)
      const fresh = Array.from({ length: 60 }, () => OrderId.make(last++))
      const all = [...orders, ...fresh]
      const pick = () => all[Math.floor(Math.random() * all.length)]!
      const calls = Array.from({ length: 800 }, (_, i) => [pick(), i % 2 === 0 ? "COMPLETED" : "FAILED"] as const)
      const reservations = Array.from({ length: 20 }, () =>
        Array.from({ length: 20 }, () => ({
          orderId: pick(),
          idempotentKey: randomUUID(),
          traceparent: Option.none()
        })))
      const [told] = yield* Effect.all([
        Effect.forEach(calls, ([order, outcome], i) => answer(instances[i % 2 as 0 | 1], order, outcome), {
          concurrency: 200
        }),
        Effect.forEach(reservations, (batch, i) => instances[i % 2 as 0 | 1].reserve(batch), { concurrency: 4 })
      ], { concurrency: "unbounded" })
      const events = yield* eventsOf(all)
      const outcomeOf = new Map<OrderId, string>()
      for (const { order_id, payload } of events) {
        const { status } = JSON.parse(payload)
        if (status === "CREATED") continue
        assert.isFalse(outcomeOf.has(OrderId.make(BigInt(order_id))), "an order has two outcomes")
        outcomeOf.set(OrderId.make(BigInt(order_id)), status)
      }
      calls.forEach(([order, outcome], i) => {
        const final = outcomeOf.get(order)
        assert.include(["PaymentNotFound", final === outcome ? "OK" : `is ${final}`], told[i])
      })
      assert.isAbove(told.filter((_) => _ === "OK").length, 60)
    }))
})
