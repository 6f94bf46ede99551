import { assert, describe, it, layer } from "@effect/vitest"
import { Array as Arr, Context, Effect, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { eventually } from "../harness/Eventually.js"
import type * as Program from "../harness/Program.js"
import { large } from "./Bounds.js"
import * as Broker from "./Broker.js"
import * as Saga from "./Saga.js"

const env = { OUTBOX_LEASE: "2s" }
/** A relay that takes one event at a time is behind, and always has one in hand. */
const slowRelay = { OUTBOX_BATCH_SIZE: "1" }

const preload = (name: string) => ({
  NODE_OPTIONS: `--import=${new URL(`./preload/${name}.mjs`, import.meta.url).href}`
})

const killed = (program: Program.Services) =>
  program.signal("SIGKILL").pipe(
    Effect.zipRight(program.ended),
    Effect.map(({ signal }) => assert.strictEqual(signal, "SIGKILL"))
  )

const stopped = (program: Program.Services) =>
  program.signal("SIGTERM").pipe(
    Effect.zipRight(program.ended),
    Effect.map(({ code }) => assert.strictEqual(code, 0, program.stderr().slice(-2_000)))
  )

const says = (program: Program.Program, text: string) =>
  Effect.sync(() => assert.include(program.stderr(), text)).pipe(eventually())

const leases = ({ tables }: Saga.Saga) =>
  tables.query<{ readonly id: string; readonly reserved_to: string }>(
    "SELECT id, reserved_to::text FROM event WHERE lease_token IS NOT NULL"
  )

/** Ends when a worker has renewed a lease: what it has in hand is on its way, and unanswered. */
const renewed = (saga: Saga.Saga) => {
  // not of one that is picked: its answer may have come before the broker froze
  const first = new Map<string, string>()
  return leases(saga).pipe(
    Effect.tap((leases) => {
      for (const { id, reserved_to } of leases) if (!first.has(id)) first.set(id, reserved_to)
      assert.isTrue(leases.some(({ id, reserved_to }) => first.get(id) !== reserved_to), "no lease is renewed yet")
    }),
    eventually()
  )
}

const onTopic = ({ topics, world }: Saga.Saga) =>
  Effect.map(topics.ends(world.payment), (ends) => ends.reduce((sum, { high }) => sum + Number(high), 0))

/** Ends when the group has read all that is on the topic now: somebody else has the partitions of those that stand still. */
const overtaken = Effect.fnUntraced(function*({ topics, world }: Saga.Saga) {
  const ends = yield* topics.ends(world.inventory)
  yield* topics.committed(world.group, world.inventory).pipe(
    Effect.tap((committed) =>
      assert.isTrue(ends.every(({ high, partition }) => committed.get(partition)! >= Number(high)), "not read yet")
    ),
    eventually("60 seconds")
  )
})

/** All that a worker could change: every row with the transaction that wrote it, offsets, and what was sent. */
const everything = (saga: Saga.Saga) =>
  Effect.all({
    rows: saga.tables.query<{ readonly of: string; readonly digest: string }>(`
      SELECT 'event' AS of, md5(string_agg(event.xmin || event::text, ',' ORDER BY id)) AS digest FROM event
      UNION ALL
      SELECT 'payment', md5(string_agg(payment.xmin || payment::text, ',' ORDER BY id)) FROM payment
    `),
    // a new broker that has had no group yet begins with refusals
    offsets: Effect.map(
      eventually()(saga.topics.committed(saga.world.group, saga.world.inventory)),
      (committed) => [...committed].sort(([a], [b]) => a - b)
    ),
    sent: onTopic(saga)
  })

/** An order as a use case writes it. */
const order = ({ tables, world }: Saga.Saga, orderId: number, payload?: string) =>
  tables.query(
    `WITH paid AS (INSERT INTO payment (order_id, status) VALUES ($2, 'CREATED'))
     INSERT INTO event (topic, order_id, payload) VALUES ($1, $2, $3)`,
    [
      world.payment,
      orderId,
      payload ?? `{"idempotent_key":"${randomUUID()}","order_id":${orderId},"status":"CREATED"}`
    ]
  )

const published = ({ tables }: Saga.Saga, events: number) =>
  tables.count("event WHERE status = 'DONE'").pipe(
    Effect.tap((count) => assert.strictEqual(count, events)),
    eventually()
  )

describe.concurrent("P1 P2 P4 P9 P10: instances that die", () => {
  it.scopedLive("killed and started again: nothing lost, nothing doubled, order kept", () =>
    Effect.gen(function*() {
      const saga = yield* Saga.make({ env })
      const first = yield* saga.serve()
      yield* first.untilReady
      yield* saga.outlives(Effect.zipRight(killed(first), saga.serve()))
    }), 150_000)

  for (const count of large ? [2, 4] : [2]) {
    it.scopedLive(
      `${count} instances, killed, stopped and added in turn: nothing lost, nothing doubled, order kept`,
      () =>
        Effect.gen(function*() {
          const saga = yield* Saga.make({ env })
          const running = yield* Effect.replicateEffect(saga.serve(), count)
          yield* Effect.forEach(running, (program) => program.untilReady)
          yield* saga.outlives(Effect.gen(function*() {
            for (const [round, program] of running.entries()) {
              yield* round % 2 === 0 ? killed(program) : stopped(program)
              yield* saga.serve()
              yield* saga.more(20)
            }
          }))
        }),
      200_000
    )
  }

  it.scopedLive(
    "killed in the middle of the migrations, beside other instances that start: they migrate and take the load",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env })
        const load = yield* saga.load
        const drill = { PAYMENTS_DRILL: "migration-half-way", PAYMENTS_DRILLS_ALLOWED: "true" }
        const victim = yield* saga.serve([], drill)
        const others = yield* Effect.replicateEffect(saga.serve(), 2)
        yield* Effect.forEach(others, (program) => program.untilReady)
        // it was killed, or found that nothing is left to do
        yield* Effect.race(victim.ended, victim.untilReady)
        yield* saga.more()
        yield* saga.judge(load)
      }),
    150_000
  )
})

/** A broker for the zombies alone: it stands still while they fall asleep. */
class AtBroker extends Context.Tag("test/AtBroker")<AtBroker, Broker.Broker>() {}

const zombies = Layer.scoped(AtBroker, Broker.make)

layer(zombies, { timeout: "120 seconds", excludeTestServices: true })("P4 P5 P6 P8: zombies", (it) => {
  it.scoped(
    "frozen for longer than the lease and the session: it changes no row, moves no offset, sends nothing",
    () =>
      Effect.gen(function*() {
        const broker = yield* AtBroker
        const saga = yield* Saga.make({ env, servers: { kafkaBrokers: broker.brokers } })
        yield* saga.serve(["grpc"])
        const zombie = yield* saga.serve(["consumer", "relay"], slowRelay)
        yield* zombie.untilReady
        const load = yield* saga.load
        yield* saga.more()
        // not just anywhere: between its last look at the lease and the bytes leaving it, it could not know
        yield* saga.reserved(800_000_001)
        yield* broker.frozen(
          saga.ask(800_000_001).pipe(Effect.zipRight(renewed(saga)), Effect.zipRight(zombie.signal("SIGSTOP")))
        )
        const heir = yield* saga.serve(["consumer", "relay"])
        yield* overtaken(saga)
        yield* saga.more()
        yield* saga.judge(load)

        const before = yield* everything(saga)
        yield* zombie.signal("SIGCONT")
        yield* says(zombie, "dropped: ")
        yield* Effect.map(saga.topics.members(saga.world.group), (members) => assert.strictEqual(members, 2)).pipe(
          eventually()
        )
        assert.deepStrictEqual(yield* everything(saga), before)

        // it is of use again
        yield* stopped(heir)
        const more = yield* saga.load
        yield* saga.more()
        yield* saga.judge(more)
      }),
    200_000
  )

  it.scoped("a relay whose answer comes late changes no event of its successor", () =>
    Effect.gen(function*() {
      const broker = yield* AtBroker
      const saga = yield* Saga.make({ env, servers: { kafkaBrokers: broker.brokers } })
      const zombie = yield* saga.serve(["relay"], { OUTBOX_BATCH_SIZE: "1" })
      yield* zombie.untilReady
      // so many that each lane has sent some: the next one leaves over a connection that is open
      const before = 30
      yield* Effect.forEach(Arr.range(1, before), (n) => order(saga, n), { concurrency: "unbounded" })
      yield* published(saga, before)
      yield* broker.frozen(Effect.gen(function*() {
        yield* order(saga, before + 1)
        yield* renewed(saga)
        yield* zombie.signal("SIGSTOP")
      }))
      const heir = yield* saga.serve(["relay"], {
        OUTBOX_LEASE: "5m",
        PAYMENTS_DRILL: "relay-claimed",
        PAYMENTS_DRILLS_ALLOWED: "true"
      })
      assert.strictEqual((yield* heir.ended).signal, "SIGKILL")
      const held = yield* everything(saga)
      assert.strictEqual(held.sent, before + 1)
      yield* zombie.signal("SIGCONT")
      yield* says(zombie, "dropped: ")
      assert.deepStrictEqual(yield* everything(saga), held)

      yield* saga.tables.query("UPDATE event SET reserved_to = clock_timestamp() WHERE lease_token IS NOT NULL")
      yield* published(saga, before + 1)
      const { found } = yield* saga.audit()
      assert.deepStrictEqual(found, { resend: 1 })
    }), 120_000)

  it.scoped(
    "a relay that was frozen with an unsent claim never sends it, and logs the dropped events",
    () =>
      Effect.gen(function*() {
        const broker = yield* AtBroker
        const saga = yield* Saga.make({ env, servers: { kafkaBrokers: broker.brokers } })
        const zombie = yield* saga.serve(["relay"])
        yield* zombie.untilReady
        yield* broker.frozen(Effect.gen(function*() {
          // it has not met the broker yet: it cannot have sent anything
          yield* order(saga, 1)
          yield* leases(saga).pipe(Effect.tap((leases) => assert.lengthOf(leases, 1)), eventually())
          yield* zombie.signal("SIGSTOP")
        }))
        const heir = yield* saga.serve(["relay"])
        yield* published(saga, 1)
        yield* stopped(heir)
        yield* zombie.signal("SIGCONT")
        yield* says(zombie, "dropped: ")
        yield* order(saga, 2)
        yield* published(saga, 2)
        assert.strictEqual(yield* onTopic(saga), 2)
        yield* saga.audit("--no-resends")
      }),
    120_000
  )
})

describe.concurrent("P3 P6: clocks and event loops", () => {
  it.scopedLive(
    "an event loop that is blocked for longer than the lease and the session: another instance takes over",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env })
        const other = yield* saga.serve()
        const blocked = yield* saga.serve(["consumer", "relay"], {
          ...slowRelay,
          ...preload("BlockedLoop"),
          BLOCK_MILLIS: "8000"
        })
        yield* Effect.forEach([blocked, other], (program) => program.untilReady)
        yield* saga.outlives(Effect.gen(function*() {
          yield* blocked.signal("SIGUSR2")
          yield* says(blocked, "the event loop is blocked")
          yield* overtaken(saga)
          yield* saga.more()
          yield* says(blocked, "the event loop is free")
          yield* blocked.untilReady
        }))
      }),
    150_000
  )

  const hour = 3_600_000
  const clock = (shift: number, zone: string) => ({
    ...preload("ShiftedClock"),
    CLOCK_SHIFT_MILLIS: String(shift),
    TZ: zone
  })

  it.scopedLive(
    "two instances, an hour fast and an hour slow: no lease that is alive is taken",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env: { ...env, OUTBOX_LEASE: "30s" } })
        const fast = yield* saga.serve([], { ...clock(hour, "Pacific/Auckland"), ...slowRelay })
        const slow = yield* saga.serve([], { ...clock(-hour, "America/St_Johns"), ...slowRelay })
        yield* Effect.forEach([fast, slow], (program) => program.untilReady)
        const [shown] = /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(fast.stderr()) ?? []
        assert.isAbove(Date.parse(shown!), Date.now() + hour / 2, "its clock is right")
        yield* saga.outlives(saga.more(100), "--no-resends")
      }),
    150_000
  )

  it.scopedLive(
    "a lease that is dead is taken, a refusal backs off for seconds, and only what is old is pruned",
    () =>
      Effect.gen(function*() {
        const saga = yield* Saga.make({ env })
        const first = yield* saga.serve(["relay"], { ...clock(-hour, "America/St_Johns") })
        yield* first.untilReady
        const { tables } = saga
        const event = (orderId: number) =>
          Effect.map(
            tables.query<{ readonly status: string; readonly attempts: number; readonly pause: number }>(
              `SELECT status, attempts, extract(epoch FROM reserved_to - clock_timestamp())::float8 AS pause
             FROM event WHERE order_id = $1`,
              [orderId]
            ),
            ([row]) => row
          )
        // larger than the broker takes
        yield* order(saga, 1, `"${"x".repeat(2_000_000)}"`)
        yield* event(1).pipe(
          Effect.tap((row) => {
            assert.isAtLeast(row!.attempts, 3)
            assert.isBelow(row!.pause, 8)
          }),
          eventually()
        )
        yield* killed(first)
        yield* tables.query("DELETE FROM event")
        yield* tables.query("DELETE FROM payment")

        // a lease of somebody who is gone, an event that is old, and one that is half an hour old
        yield* order(saga, 2)
        yield* tables.query(
          "UPDATE event SET lease_token = gen_random_uuid(), reserved_to = clock_timestamp() + interval '2 seconds'"
        )
        const done = (orderId: number, age: string) =>
          tables.query(
            `INSERT INTO event (topic, order_id, payload, status, created_at, done_at)
           VALUES ('elsewhere', $1, '', 'DONE', clock_timestamp() - $2::interval, clock_timestamp() - $2::interval)`,
            [orderId, age]
          )
        yield* done(3, "90 minutes")
        yield* done(4, "30 minutes")
        const second = yield* saga.serve(["relay"], { ...clock(hour, "Pacific/Auckland"), OUTBOX_RETENTION: "1h" })
        yield* second.untilReady
        yield* Effect.gen(function*() {
          assert.isUndefined(yield* event(3))
          assert.strictEqual((yield* event(2))!.status, "DONE")
        }).pipe(eventually())
        assert.strictEqual((yield* event(4))?.status, "DONE")
        assert.strictEqual(yield* onTopic(saga), 1)
      }),
    120_000
  )
})
