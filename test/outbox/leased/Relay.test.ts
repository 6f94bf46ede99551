import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Deferred, Effect, Fiber, Layer, Metric, Queue } from "effect"
import { DatabaseUnavailable } from "../../../src/infra/postgres/Postgres.js"
import type { Published } from "../../../src/outbox/leased/EventPublisher.js"
import { EventPublisher } from "../../../src/outbox/leased/EventPublisher.js"
import * as KafkaPublisher from "../../../src/outbox/leased/KafkaPublisher.js"
import * as Lease from "../../../src/outbox/leased/Lease.js"
import * as Relay from "../../../src/outbox/leased/Relay.js"
import { Outbox } from "../../../src/outbox/Outbox.js"
import type { OutboxEvent } from "../../../src/outbox/OutboxEvent.js"
import { OutboxWake } from "../../../src/outbox/OutboxWake.js"
import { until } from "../../harness/Eventually.js"
import * as KafkaTest from "../../harness/KafkaTest.js"
import * as Fixtures from "../Fixtures.js"

const TestLayer = Layer.merge(Fixtures.layer, OutboxWake.layerLocal)

const publisher = Layer.suspend(() => KafkaPublisher.layer(KafkaTest.kafka()))

/** A publisher of the test's own, for what the real broker cannot be made to show on cue. */
const publishing = (
  publish: (events: ReadonlyArray<OutboxEvent>, mayStart: () => boolean) => Effect.Effect<Published>
) => Layer.succeed(EventPublisher, { open: Effect.succeed({ publish }) })

const nothing: Published = { sent: [], unsent: [], undecided: [], refused: [] }

const run = (options: Partial<Relay.RelayOptions> = {}) =>
  Relay.serve({
    batchSize: 500,
    lease: "30 seconds",
    pollInterval: "20 millis",
    drainTimeout: "10 seconds",
    part: Fixtures.part(),
    listener: Fixtures.part(),
    ...options
  })

const count = (status: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.map(
      sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM event WHERE status = ${status}::event_status`,
      ([row]) => row!.n
    ))

const leased = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ readonly n: number }>`SELECT count(*)::int AS n FROM event WHERE lease_token IS NOT NULL`,
    ([row]) => row!.n
  ))

const lost = Effect.map(Metric.value(Lease.metrics[0]!), ({ count }) => count)

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("Relay", (it) => {
  it.scoped("publishes the exact body under the order's key, with headers, the orders' events in their order", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic()
      const orders = Arr.range(1, 40)
      const created = yield* Fixtures.append(orders, { topic })
      yield* Fixtures.append(orders, { topic, status: "COMPLETED" })
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      yield* sql`UPDATE event SET traceparent = ${traceparent} WHERE id = ${created[0]!}`
      const rows = yield* sql<{ readonly id: string; readonly payload: string }>`SELECT id, payload FROM event`

      yield* Effect.forkScoped(Effect.provide(run(), publisher))
      const records = yield* KafkaTest.read(topic, 80)
      yield* until(count("DONE"), (n) => n === 80)

      const bodies = new Map(rows.map(({ id, payload }) => [id, payload]))
      for (const { headers, key, value } of records) {
        assert.strictEqual(value!.toString(), bodies.get(headers!["event-id"]!.toString()))
        assert.strictEqual(headers!["content-type"]!.toString(), "application/json")
        assert.include(value!.toString(), `"order_id":${key!.toString()},`)
      }
      const first = records.find(({ headers }) => headers!["event-id"]!.toString() === created[0])
      assert.strictEqual(first!.headers!["traceparent"]!.toString(), traceparent)
      for (const order of orders) {
        const ofOrder = records.filter(({ key }) => key!.toString() === String(order))
        assert.deepStrictEqual(ofOrder.map(({ value }) => JSON.parse(value!.toString()).status), [
          "CREATED",
          "COMPLETED"
        ])
        assert.strictEqual(new Set(ofOrder.map((_) => _.partition)).size, 1)
      }
    }))

  it.scoped("a refused record delays no other event, and no other event is sent twice", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const topic = yield* KafkaTest.freshTopic({ "max.message.bytes": "20000" })
      const ids = yield* Fixtures.append(Arr.range(1, 50), { topic })
      yield* sql`UPDATE event SET payload = repeat('x', 30000) WHERE id = ${ids[20]!}`

      const relay = yield* Effect.forkScoped(Effect.provide(run(), publisher))
      yield* until(count("DONE"), (n) => n === 49)
      yield* until(Fixtures.statusOf(ids[20]!), ({ attempts }) => attempts >= 1)
      yield* Fiber.interrupt(relay)
      const { last_error, status } = yield* Fixtures.statusOf(ids[20]!)
      // WAIT, or DEAD after so many attempts as there was time for
      assert.notStrictEqual(status, "DONE")
      assert.strictEqual(last_error, "MESSAGE_TOO_LARGE")
      assert.strictEqual(yield* KafkaTest.size(topic), 49)
    }))

  it.scoped("a missing topic delays no other topic, and counts no attempt", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const topic = yield* KafkaTest.freshTopic()
      const [stuck] = yield* Fixtures.append([1], { topic: "no-such-topic" })
      yield* Fixtures.append([2, 3], { topic })
      yield* Effect.forkScoped(Effect.provide(run(), publisher))
      yield* until(count("DONE"), (n) => n === 2)
      yield* until(Fixtures.statusOf(stuck!), ({ delay }) => delay !== null && delay > 0 && delay <= 5)
      assert.strictEqual((yield* Fixtures.statusOf(stuck!)).attempts, 0)
    }))

  it.scoped("a wake-up of this process, and one of another, make it claim at once", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const wake = yield* OutboxWake
      const idle = yield* Deferred.make<void>()
      const listening = sql`
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'
      `
      yield* Effect.forkScoped(
        Effect.provide(
          run({ pollInterval: "1 hour", part: Fixtures.partThat(() => Deferred.unsafeDone(idle, Effect.void)) }),
          publishing((events) => Effect.succeed({ ...nothing, sent: events }))
        )
      )
      yield* Deferred.await(idle)
      yield* Fixtures.append([1])
      yield* wake.wake
      yield* until(count("DONE"), (n) => n === 1)

      yield* until(listening, (rows) => rows.length === 1)
      yield* Fixtures.append([2])
      yield* sql`SELECT pg_notify('payments_outbox', '')`
      yield* until(count("DONE"), (n) => n === 2)
    }))

  it.scoped("a stop finishes the send in hand, and releases unsent events", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const ids = yield* Fixtures.append([1, 2, 3])
      const sending = yield* Deferred.make<() => boolean>()
      const answer = yield* Deferred.make<void>()
      const relay = yield* Effect.fork(Effect.provide(
        run(),
        publishing((events, mayStart) =>
          mayStart()
            ? Deferred.succeed(sending, mayStart).pipe(
              Effect.zipRight(Deferred.await(answer)),
              // several lanes may have claimed some of them
              Effect.as({
                ...nothing,
                sent: events.filter(({ id }) => id === ids[0]),
                unsent: events.filter(({ id }) => id !== ids[0])
              })
            )
            : Effect.succeed({ ...nothing, unsent: events })
        )
      ))
      const mayStart = yield* Deferred.await(sending)
      const stopping = yield* Effect.fork(Fiber.interrupt(relay))
      yield* until(Effect.sync(mayStart), (may) => !may)
      yield* Deferred.succeed(answer, undefined)
      yield* Fiber.join(stopping)
      assert.strictEqual((yield* Fixtures.statusOf(ids[0]!)).status, "DONE")
      assert.strictEqual(yield* count("WAIT"), 2)
      assert.strictEqual(yield* leased, 0)
    }))

  it.scoped("a stop does not wait for idle lanes", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const looks = yield* Queue.unbounded<void>()
      const relay = yield* Effect.fork(Effect.provide(
        run({
          pollInterval: "1 hour",
          drainTimeout: "1 hour",
          part: Fixtures.partThat(() => void looks.unsafeOffer(undefined))
        }),
        publishing(() => Effect.succeed(nothing))
      ))
      // one for each lane
      yield* Queue.takeN(looks, 3)
      yield* Fiber.interrupt(relay)
    }))

  it.scoped("no attempt starts once the stop has begun", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      yield* Fixtures.append([1])
      const looked = yield* Deferred.make<() => boolean>()
      const relay = yield* Effect.fork(Effect.provide(
        run(),
        publishing((events, mayStart) =>
          Deferred.succeed(looked, mayStart).pipe(
            Effect.zipRight(until(Effect.sync(mayStart), (may) => !may)),
            Effect.as({ ...nothing, unsent: events })
          ) as Effect.Effect<Published>
        )
      ))
      const mayStart = yield* Deferred.await(looked)
      assert.isTrue(mayStart())
      yield* Fiber.interrupt(relay)
      assert.isFalse(mayStart())
      assert.strictEqual(yield* leased, 0)
    }))

  it.scoped("renews its lease while it publishes, and stops sending when another worker took over", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const [id] = yield* Fixtures.append([1])
      const looked = yield* Deferred.make<() => boolean>()
      const lostBefore = yield* lost
      const release = yield* Deferred.make<void>()
      const relay = yield* Effect.forkScoped(Effect.provide(
        run({ lease: "1 second" }),
        publishing((events, mayStart) =>
          Deferred.succeed(looked, mayStart).pipe(
            Effect.zipRight(Deferred.await(release)),
            Effect.as({ ...nothing, sent: events })
          )
        )
      ))
      const mayStart = yield* Deferred.await(looked)
      const lease = sql<{ readonly reserved_to: Date }>`SELECT reserved_to FROM event WHERE id = ${id!}`
      const [before] = yield* lease
      yield* until(lease, ([now]) => now!.reserved_to > before!.reserved_to)
      assert.isTrue(mayStart())

      yield* sql`UPDATE event SET lease_token = gen_random_uuid(), reserved_to = clock_timestamp() + interval '1 hour'`
      yield* until(Effect.sync(mayStart), (may) => !may)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.interrupt(relay)
      assert.strictEqual((yield* Fixtures.statusOf(id!)).status, "WAIT", "it marked what was not its own")
      assert.strictEqual(yield* lost, lostBefore + 1)
    }))

  it.scoped.each(
    [
      ["sent", "the mark finds that another worker took an event over"],
      ["unsent", "the release finds it"]
    ] as const
  )(
    "a lost lease counts once, also when the process stood still and did not renew: %s, %s",
    ([outcome]) =>
      Effect.gen(function*() {
        yield* Fixtures.clear
        const sql = yield* SqlClient.SqlClient
        yield* Fixtures.append([1, 2])
        const before = yield* lost
        const relay = yield* Effect.fork(Effect.provide(
          run({ lease: "1 hour" }),
          publishing((events) =>
            sql`UPDATE event SET lease_token = gen_random_uuid() WHERE id = ${events[0]!.id}`.pipe(
              Effect.orDie,
              Effect.as({ ...nothing, [outcome]: events })
            )
          )
        ))
        yield* until(lost, (count) => count > before)
        yield* Fiber.interrupt(relay)
        assert.strictEqual(yield* lost, before + 1)
      })
  )

  it.scoped("keeps its lease until the events that it sent are marked, also when the mark is slow", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      const [id] = yield* Fixtures.append([1])
      const sent: Array<string> = []
      const marking = yield* Deferred.make<void>()
      const arrive = yield* Deferred.make<void>()
      const markDone: typeof outbox.markDone = (claim, events) =>
        Deferred.succeed(marking, undefined).pipe(
          Effect.zipRight(Deferred.await(arrive)),
          Effect.zipRight(outbox.markDone(claim, events))
        )
      yield* run({ lease: "1 second" }).pipe(
        Effect.provide(publishing((events) => {
          sent.push(...events.map(({ id }) => id))
          return Effect.succeed({ ...nothing, sent: events })
        })),
        Effect.provideService(Outbox, Outbox.make({ ...outbox, markDone })),
        Effect.forkScoped
      )
      yield* Deferred.await(marking)
      const [first] = yield* sql<{ readonly ends: Date }>`SELECT reserved_to AS ends FROM event WHERE id = ${id!}`
      yield* until(
        sql<{ readonly over: boolean }>`SELECT clock_timestamp() > ${first!.ends} AS over`,
        ([now]) => now!.over
      )
      assert.isEmpty((yield* outbox.claim(500)).events, "another relay would send it again")
      assert.deepStrictEqual(sent, [id], "another lane has sent it again")
      yield* Deferred.succeed(arrive, undefined)
      yield* until(count("DONE"), (n) => n === 1)
    }).pipe(Effect.provide(Outbox.Default({ ...Fixtures.options, lease: "1 second" }))))

  it.scoped("dispatched events that waited longer than their lease are claimed anew, at once", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const { dispatch } = yield* OutboxWake
      const lostBefore = yield* lost
      // as many as there are lanes
      const first = yield* Fixtures.append([1, 2, 3])
      const isAway = yield* Effect.makeLatch()
      const busy = new Set<string>()
      const late: Array<string> = []
      const relay = yield* Effect.fork(Effect.provide(
        run({ lease: "1 second", batchSize: 1, pollInterval: "1 minute" }),
        publishing((events, mayStart) =>
          Effect.suspend(() => {
            const ids = events.map(({ id }) => id)
            if (!mayStart()) {
              late.push(...ids)
              return Effect.succeed({ ...nothing, unsent: events })
            }
            for (const id of ids) busy.add(id)
            return Effect.as(isAway.await, { ...nothing, sent: events })
          })
        )
      ))
      yield* until(Effect.sync(() => first.every((id) => busy.has(id))), (all) => all)

      const lease = dispatch.lease()!
      const [id] = yield* Fixtures.append([4])
      yield* sql`
        UPDATE event SET lease_token = ${lease.token}::uuid, reserved_to = clock_timestamp() + interval '1 second' WHERE id = ${id!}
      `
      dispatch.dispatch({
        ...lease,
        events: [{ id: id!, topic: "payment", key: "4", payload: "{}", traceparent: null, generation: 0 }]
      })
      yield* until(Fixtures.statusOf(id!), ({ delay }) => delay! < 0)
      yield* isAway.open
      yield* until(count("DONE"), (n) => n === 4)
      yield* Fiber.interrupt(relay)
      assert.isEmpty(late)
      assert.strictEqual(yield* lost, lostBefore)
    }).pipe(Effect.provide(Outbox.Default({ ...Fixtures.options, lease: "1 second" }))))

  it.scoped("a failed claim interrupts no mark of sent events, and is repeated", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      yield* Fixtures.append([1])
      const marking = yield* Deferred.make<void>()
      const part = Fixtures.part()
      let away = false
      const whenThere = <A>(effect: Effect.Effect<A, DatabaseUnavailable>) =>
        Effect.suspend(() => away ? new DatabaseUnavailable({ cause: new Error("away") }) : effect)
      const claim: typeof outbox.claim = (limit, from) => whenThere(outbox.claim(limit, from))
      const markDone: typeof outbox.markDone = (claim, events) =>
        Effect.zipRight(Deferred.succeed(marking, undefined), whenThere(outbox.markDone(claim, events)))
      const sent: Array<string> = []
      const relay = yield* run({ part }).pipe(
        Effect.provide(publishing((events) => {
          sent.push(...events.map(({ id }) => id))
          away = sent.length === 1
          return Effect.succeed({ ...nothing, sent: events })
        })),
        Effect.provideService(Outbox, Outbox.make({ ...outbox, claim, markDone })),
        Effect.fork
      )
      yield* Deferred.await(marking)
      assert.include(yield* until(Effect.sync(part.why), (why) => why !== undefined), "away")
      away = false
      yield* until(count("DONE"), (n) => n === 1)
      yield* Fixtures.append([2])
      yield* until(count("DONE"), (n) => n === 2)
      assert.lengthOf(sent, 2)
      yield* Fiber.interrupt(relay)
    }))

  it.scoped("a lease that cannot be renewed ends in the worker too", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      yield* Fixtures.append([1])
      const looked = yield* Deferred.make<() => boolean>()
      yield* Effect.forkScoped(Effect.provide(
        run({ lease: "1 second", drainTimeout: "100 millis" }),
        publishing((_, mayStart) => Effect.zipRight(Deferred.succeed(looked, mayStart), Effect.never))
      ))
      const mayStart = yield* Deferred.await(looked)
      // renewals wait for the row, as they would wait for a database that has stopped
      const locked = yield* Deferred.make<void>()
      const unlock = yield* Deferred.make<void>()
      yield* Effect.forkScoped(sql.withTransaction(
        sql`SELECT * FROM event FOR UPDATE`.pipe(
          Effect.zipRight(Deferred.succeed(locked, undefined)),
          Effect.zipRight(Deferred.await(unlock))
        )
      ))
      yield* Deferred.await(locked)
      yield* until(Effect.sync(mayStart), (may) => !may)
      yield* Deferred.succeed(unlock, undefined)
    }))
})
