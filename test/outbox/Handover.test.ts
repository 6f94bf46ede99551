import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Layer, Option, Queue, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../src/domain/Payment.js"
import * as Handover from "../../src/outbox/Handover.js"
import type { Published } from "../../src/outbox/leased/EventPublisher.js"
import { EventPublisher } from "../../src/outbox/leased/EventPublisher.js"
import * as Relay from "../../src/outbox/leased/Relay.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import type { OutboxEvent } from "../../src/outbox/OutboxEvent.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import * as PgTest from "../harness/PgTest.js"
import * as Fixtures from "./Fixtures.js"

const services = Payments.Default.pipe(Layer.provide(PaymentRepo.Default), Layer.provideMerge(Fixtures.layer))

let last = 1_000n
const orders = (n: number) => Array.from({ length: n }, () => OrderId.make(last++))

const reserve = Effect.fnUntraced(function*(ids: ReadonlyArray<OrderId>) {
  const payments = yield* Payments
  yield* payments.reserve(ids.map((orderId) => ({ orderId, idempotentKey: randomUUID(), traceparent: Option.none() })))
})
const settle = (orderId: OrderId) => Effect.flatMap(Payments, (payments) => payments.settle(orderId, "COMPLETED"))

interface Row {
  readonly id: string
  readonly key: string
  readonly payload: string
  readonly traceparent: string | null
  readonly topic: string
  readonly status: string
  readonly lease_token: string | null
  /** Seconds. */
  readonly left: number | null
}

const rows = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql<Row>`
    SELECT id, order_id::text AS key, payload, traceparent, topic, status, lease_token,
           extract(epoch FROM reserved_to - clock_timestamp())::float8 AS left
    FROM event ORDER BY id
  `)

const eventOf = ({ id, key, payload, topic, traceparent }: Row): OutboxEvent => ({
  generation: 0,
  id,
  topic,
  key,
  payload,
  traceparent
})

/** Takes events from the beginning of a test to its end. */
const opened = (room: number) =>
  Effect.gen(function*() {
    yield* Fixtures.clear
    const { handover } = yield* OutboxWake
    yield* Effect.acquireRelease(Effect.sync(() => handover.open(room)), () => Effect.sync(handover.close))
    return handover
  })

type Publish = (events: ReadonlyArray<OutboxEvent>, mayStart: () => boolean) => Effect.Effect<Published>
const nothing: Published = { sent: [], unsent: [], undecided: [], refused: [] }

/** A relay that looks at the table at its start, and then only when it is told to. */
const relay = (publish: Publish, options: Partial<Relay.RelayOptions> = {}) =>
  Effect.gen(function*() {
    const idle = yield* Deferred.make<void>()
    const url = yield* PgTest.DatabaseUrl
    const fiber = yield* Relay.serve({
      batchSize: 500,
      lease: "30 seconds",
      pollInterval: "1 hour",
      notifications: Redacted.make(url),
      drainTimeout: "10 seconds",
      onTurn: () => Deferred.succeed(idle, undefined),
      ...options
    }).pipe(Effect.provide(Layer.succeed(EventPublisher, { open: Effect.succeed({ publish }) })), Effect.forkScoped)
    yield* Deferred.await(idle)
    return fiber
  })

layer(services, { timeout: "60 seconds", excludeTestServices: true })("what is leased when it is written", (it) => {
  it.scoped("a payment and a settlement hand over their events, under a lease that nobody else can take", () =>
    Effect.gen(function*() {
      const outbox = yield* Outbox
      const handover = yield* opened(100)
      const [one, two] = orders(2) as [OrderId, OrderId]
      yield* reserve([one, two])
      const created = handover.take(100)!
      const written = yield* rows
      assert.deepStrictEqual([...created.events].sort((a, b) => Number(a.id) - Number(b.id)), written.map(eventOf))
      for (const { left, lease_token } of written) {
        assert.strictEqual(lease_token, created.token)
        assert.isTrue(left! > 25 && left! <= 30)
      }
      assert.lengthOf((yield* outbox.claim(10)).events, 0)
      assert.lengthOf(yield* outbox.markDone(created, created.events), 2)

      yield* settle(two)
      const settled = handover.take(100)!
      assert.deepStrictEqual(settled.events, [eventOf((yield* rows)[2]!)])
      assert.isTrue(settled.since > created.since && settled.since < (yield* Clock.currentTimeNanos))
      yield* outbox.release(settled, settled.events, 0)
      assert.lengthOf((yield* outbox.claim(10)).events, 1, "given back, it is anybody's")
    }))

  it.scoped("an event waits in the table while an earlier one of its order is not done, and that is announced", () =>
    Effect.gen(function*() {
      const outbox = yield* Outbox
      const { announced } = yield* OutboxWake
      const handover = yield* opened(100)
      const [order, other] = orders(2) as [OrderId, OrderId]
      yield* reserve([order])
      assert.isFalse(announced())
      yield* settle(order)
      assert.isTrue(announced())
      assert.deepStrictEqual((yield* rows).map(({ lease_token }) => lease_token !== null), [true, false])
      yield* reserve([other])
      const handed = handover.take(100)!
      assert.deepStrictEqual(handed.events.map(({ key }) => key), [String(order), String(other)])
      yield* outbox.markDone(handed, handed.events)
      assert.deepStrictEqual((yield* outbox.claim(10)).events.map(({ key }) => key), [String(order)])
    }))

  it.scoped("who has enough to do is handed no more; who has gone gives back what still comes", () =>
    Effect.gen(function*() {
      const handover = yield* opened(3)
      const { announced } = yield* OutboxWake
      const leased = Effect.map(rows, (all) => all.filter(({ lease_token }) => lease_token !== null).length)
      yield* reserve(orders(2))
      yield* reserve(orders(2))
      assert.isFalse(announced())
      yield* reserve(orders(2))
      assert.isTrue(announced())
      assert.strictEqual(yield* leased, 4)
      assert.lengthOf(handover.take(3)!.events, 3)
      yield* reserve(orders(1))
      assert.strictEqual(yield* leased, 5)
      assert.lengthOf(handover.take(3)!.events, 2)
      assert.isUndefined(handover.take(3))

      // the relay goes while the statement is under way
      const sql = yield* SqlClient.SqlClient
      const locked = yield* Deferred.make<void>()
      const unlock = yield* Deferred.make<void>()
      yield* Effect.forkScoped(sql.withTransaction(
        sql`LOCK TABLE event IN EXCLUSIVE MODE`.pipe(
          Effect.zipRight(Deferred.succeed(locked, undefined)),
          Effect.zipRight(Deferred.await(unlock))
        )
      ))
      yield* Deferred.await(locked)
      const writing = yield* Effect.fork(reserve(orders(1)))
      yield* Fixtures.until(
        sql`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        ({ length }) => length === 1
      )
      handover.close()
      yield* Deferred.succeed(unlock, undefined)
      yield* Fiber.join(writing)
      const { lease_token, left } = (yield* rows).at(-1)!
      assert.deepStrictEqual([lease_token, left! <= 0], [null, true])
    }))

  it.scoped("the relay publishes what it is handed without a look at the table, and what waited for it", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sent = yield* Queue.unbounded<string>()
      const gate = yield* Deferred.make<void>()
      yield* relay((events) =>
        Queue.offerAll(sent, events.map(({ key, payload }) => `${key} ${JSON.parse(payload).status}`)).pipe(
          Effect.zipRight(Deferred.await(gate)),
          Effect.as({ ...nothing, sent: events })
        )
      )
      const [order] = orders(1) as [OrderId]
      yield* reserve([order])
      assert.strictEqual(yield* Queue.take(sent), `${order} CREATED`)
      // it is looked for at once, and passed over: its time is when the first one is done
      yield* settle(order)
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Queue.take(sent).pipe(Effect.timeout("10 seconds")), `${order} COMPLETED`)
      yield* Fixtures.until(rows, (all) => all.every(({ status }) => status === "DONE"))
    }))

  it.scoped("a stop gives back what was handed over and not sent", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const busy = yield* Queue.unbounded<void>()
      const gate = yield* Deferred.make<void>()
      const fiber = yield* relay((events) =>
        Queue.offer(busy, undefined).pipe(
          Effect.zipRight(Deferred.await(gate)),
          Effect.as({ ...nothing, sent: events })
        )
      )
      for (const one of orders(3)) {
        yield* reserve([one])
        yield* Queue.take(busy)
      }
      yield* reserve(orders(4))
      assert.isTrue((yield* rows).every(({ lease_token }) => lease_token !== null))
      const stopping = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* Fixtures.until(rows, (all) => all.filter(({ lease_token }) => lease_token === null).length === 4)
      yield* reserve(orders(1))
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(
        (yield* rows).map(({ lease_token, status }) => [status, lease_token]),
        [...Array(3).fill(["DONE", null]), ...Array(5).fill(["WAIT", null])]
      )
    }))

  it.scoped("what was handed over longer ago than its lease is not sent", () =>
    Effect.gen(function*() {
      const clock = yield* Effect.clock
      const { handover } = yield* OutboxWake
      yield* Fixtures.clear
      const asked = yield* Queue.unbounded<boolean>()
      yield* relay((events, mayStart) =>
        Effect.as(
          Queue.offer(asked, mayStart()),
          mayStart() ? { ...nothing, sent: events } : { ...nothing, unsent: events }
        )
      )
      const advance = handover.advance()!
      const event = { id: "1", topic: "payment", key: "1", payload: "{}", traceparent: null, generation: 0 }
      const length = 30_000_000_000n
      handover.hand({ ...advance, since: clock.unsafeCurrentTimeNanos() - length, events: [event] })
      assert.isFalse(yield* Queue.take(asked))
      handover.hand({ ...advance, since: clock.unsafeCurrentTimeNanos() - length / 2n, events: [event] })
      assert.isTrue(yield* Queue.take(asked))
    }))

  it("several that wait are one claim: as old as the oldest, and cut where it is asked to", () => {
    let rings = 0
    const handover = Handover.make({ unsafeCurrentTimeNanos: () => 7n } as Clock.Clock, () => rings++)
    assert.isUndefined(handover.advance())
    handover.open(10)
    const advance = handover.advance()!
    assert.strictEqual(advance.since, 7n)
    const event = (id: number): OutboxEvent => ({
      generation: 0,
      id: `${id}`,
      topic: "t",
      key: `${id}`,
      payload: "",
      traceparent: null
    })
    handover.look()
    assert.isTrue(handover.hand({ ...handover.advance()!, since: 9n, events: [event(1), event(2)] }))
    assert.isTrue(handover.hand({ ...advance, since: 8n, events: [event(3)] }))
    assert.strictEqual(rings, 2)
    assert.deepStrictEqual(handover.take(2), {
      token: advance.token,
      since: 8n,
      looks: 0,
      events: [event(1), event(2)]
    })
    assert.strictEqual(rings, 3, "another lane takes the rest")
    assert.deepStrictEqual(handover.close()?.events, [event(3)])
    assert.isFalse(handover.hand({ ...advance, events: [event(4)] }))
    handover.open(10)
    assert.isFalse(handover.hand({ ...advance, events: [event(4)] }), "of a relay that has gone")
  })
})
