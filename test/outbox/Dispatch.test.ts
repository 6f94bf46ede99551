import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Layer, Option, Queue } from "effect"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../src/domain/Payment.js"
import * as Dispatch from "../../src/outbox/Dispatch.js"
import type { Published } from "../../src/outbox/leased/EventPublisher.js"
import { EventPublisher } from "../../src/outbox/leased/EventPublisher.js"
import * as Relay from "../../src/outbox/leased/Relay.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import type { OutboxEvent } from "../../src/outbox/OutboxEvent.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { until } from "../harness/Eventually.js"
import * as Locks from "../harness/Locks.js"
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

/** The events of a dispatch without what only traces read, by id. */
const untraced = (events: ReadonlyArray<OutboxEvent>) =>
  events.map(({ waited: _, ...event }) => event).sort((a, b) => Number(a.id) - Number(b.id))

/** Takes events from the beginning of a test to its end. */
const opened = (room: number) =>
  Effect.gen(function*() {
    yield* Fixtures.clear
    const { dispatch } = yield* OutboxWake
    yield* Effect.acquireRelease(Effect.sync(() => dispatch.open(room)), () => Effect.sync(dispatch.close))
    return dispatch
  })

type Publish = (events: ReadonlyArray<OutboxEvent>, mayStart: () => boolean) => Effect.Effect<Published>
const nothing: Published = { sent: [], unsent: [], undecided: [], refused: [] }

/** A relay that claims events at its start, and later only after a wake-up. */
const relay = (publish: Publish, options: Partial<Relay.RelayOptions> = {}) =>
  Effect.gen(function*() {
    const idle = yield* Deferred.make<void>()
    const fiber = yield* Relay.serve({
      batchSize: 500,
      lease: "30 seconds",
      pollInterval: "1 hour",
      drainTimeout: "10 seconds",
      part: Fixtures.partThat(() => Deferred.unsafeDone(idle, Effect.void)),
      listener: Fixtures.part(),
      ...options
    }).pipe(Effect.provide(Layer.succeed(EventPublisher, { open: Effect.succeed({ publish }) })), Effect.forkScoped)
    yield* Deferred.await(idle)
    return fiber
  })

layer(services, { timeout: "60 seconds", excludeTestServices: true })(
  "events that their writing statement leases",
  (it) => {
    it.scoped("creation and settlement dispatch their events, under a lease that no other relay can take", () =>
      Effect.gen(function*() {
        const outbox = yield* Outbox
        const dispatch = yield* opened(100)
        const [one, two] = orders(2) as [OrderId, OrderId]
        yield* reserve([one, two])
        const created = dispatch.take(100)!
        const written = yield* rows
        assert.deepStrictEqual(untraced(created.events), written.map(eventOf))
        for (const { left, lease_token } of written) {
          assert.strictEqual(lease_token, created.token)
          assert.isTrue(left! > 25 && left! <= 30)
        }
        assert.lengthOf((yield* outbox.claim(10)).events, 0)
        assert.lengthOf(yield* outbox.markDone(created, created.events), 2)

        yield* settle(two)
        const settled = dispatch.take(100)!
        assert.deepStrictEqual(untraced(settled.events), [eventOf((yield* rows)[2]!)])
        assert.isTrue(settled.since > created.since && settled.since < (yield* Clock.currentTimeNanos))
        yield* outbox.release(settled, settled.events, 0)
        assert.lengthOf((yield* outbox.claim(10)).events, 1, "released, any relay may claim it")
      }))

    it.scoped("an event waits in the table while an earlier one of its order is not DONE, and the relay is woken", () =>
      Effect.gen(function*() {
        const outbox = yield* Outbox
        const { wakeRequested } = yield* OutboxWake
        const dispatch = yield* opened(100)
        const [order, other] = orders(2) as [OrderId, OrderId]
        yield* reserve([order])
        assert.isFalse(wakeRequested())
        yield* settle(order)
        assert.isTrue(wakeRequested())
        assert.deepStrictEqual((yield* rows).map(({ lease_token }) => lease_token !== null), [true, false])
        yield* reserve([other])
        const dispatched = dispatch.take(100)!
        assert.deepStrictEqual(dispatched.events.map(({ key }) => key), [String(order), String(other)])
        yield* outbox.markDone(dispatched, dispatched.events)
        assert.deepStrictEqual((yield* outbox.claim(10)).events.map(({ key }) => key), [String(order)])
      }))

    it.scoped("a relay with enough to do gets no more; events for a stopped relay are released", () =>
      Effect.gen(function*() {
        const dispatch = yield* opened(3)
        const { wakeRequested } = yield* OutboxWake
        const leased = Effect.map(rows, (all) => all.filter(({ lease_token }) => lease_token !== null).length)
        yield* reserve(orders(2))
        yield* reserve(orders(2))
        assert.isFalse(wakeRequested())
        yield* reserve(orders(2))
        assert.isTrue(wakeRequested())
        assert.strictEqual(yield* leased, 4)
        assert.lengthOf(dispatch.take(3)!.events, 3)
        yield* reserve(orders(1))
        assert.strictEqual(yield* leased, 5)
        assert.lengthOf(dispatch.take(3)!.events, 2)
        assert.isUndefined(dispatch.take(3))

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
        yield* Locks.waiting(1)
        dispatch.close()
        yield* Deferred.succeed(unlock, undefined)
        yield* Fiber.join(writing)
        const { lease_token, left } = (yield* rows).at(-1)!
        assert.deepStrictEqual([lease_token, left! <= 0], [null, true])
      }))

    it.scoped("the relay publishes dispatched events without a claim, and the events that waited for them", () =>
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
        yield* until(rows, (all) => all.every(({ status }) => status === "DONE"))
      }))

    it.scoped("a stop releases dispatched events that were not sent", () =>
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
        yield* until(rows, (all) => all.filter(({ lease_token }) => lease_token === null).length === 4)
        yield* reserve(orders(1))
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(
          (yield* rows).map(({ lease_token, status }) => [status, lease_token]),
          [...Array(3).fill(["DONE", null]), ...Array(5).fill(["WAIT", null])]
        )
      }))

    it.scoped("events that were dispatched longer ago than their lease are not sent", () =>
      Effect.gen(function*() {
        const clock = yield* Effect.clock
        const { dispatch } = yield* OutboxWake
        yield* Fixtures.clear
        const sent = yield* Queue.unbounded<string>()
        yield* relay((events) =>
          Effect.as(Queue.offerAll(sent, events.map(({ id }) => id)), { ...nothing, sent: events })
        )
        const lease = dispatch.lease()!
        const [late, early] = ["1", "2"].map((id) => (
          { id, topic: "payment", key: id, payload: "{}", traceparent: null, generation: 0 }
        )) as [OutboxEvent, OutboxEvent]
        const length = 30_000_000_000n
        dispatch.dispatch({ ...lease, since: clock.unsafeCurrentTimeNanos() - length, events: [late] })
        yield* until(Effect.sync(dispatch.looks), (looks) => looks > lease.looks)
        dispatch.dispatch({ ...lease, since: clock.unsafeCurrentTimeNanos() - length / 2n, events: [early] })
        assert.strictEqual(yield* Queue.take(sent), "2")
      }))

    it("waiting dispatches become one claim with the oldest lease, cut at the limit", () => {
      let notified = 0
      const dispatch = Dispatch.make({ unsafeCurrentTimeNanos: () => 7n } as Clock.Clock, () => notified++)
      assert.isUndefined(dispatch.lease())
      dispatch.open(10)
      const lease = dispatch.lease()!
      assert.strictEqual(lease.since, 7n)
      const event = (id: number): OutboxEvent => ({
        generation: 0,
        id: `${id}`,
        topic: "t",
        key: `${id}`,
        payload: "",
        traceparent: null
      })
      dispatch.look()
      assert.isTrue(dispatch.dispatch({ ...dispatch.lease()!, since: 9n, events: [event(1), event(2)] }))
      assert.isTrue(dispatch.dispatch({ ...lease, since: 8n, events: [event(3)] }))
      assert.strictEqual(notified, 2)
      assert.deepStrictEqual(dispatch.take(2), {
        token: lease.token,
        since: 8n,
        looks: 0,
        events: [event(1), event(2)]
      })
      assert.strictEqual(notified, 3, "another lane takes the rest")
      assert.deepStrictEqual(dispatch.close()?.events, [event(3)])
      assert.isFalse(dispatch.dispatch({ ...lease, events: [event(4)] }))
      dispatch.open(10)
      assert.isFalse(dispatch.dispatch({ ...lease, events: [event(4)] }), "of a relay that has gone")
    })
  }
)
