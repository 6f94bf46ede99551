import { assert, describe, it, layer } from "@effect/vitest"
import { Array as Arr, Context, Effect, Layer } from "effect"
import { eventually } from "../../harness/Eventually.js"
import type * as Program from "../../harness/Program.js"
import { large } from "../Bounds.js"
import * as Broker from "../Broker.js"
import { env, killed, onTopic, order, overtaken, says, slowRelay } from "../Instances.js"
import * as Saga from "../Saga.js"

const stopped = (program: Program.Services) =>
  program.signal("SIGTERM").pipe(
    Effect.zipRight(program.ended),
    Effect.map(({ code }) => assert.strictEqual(code, 0, program.stderr().slice(-2_000)))
  )

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
        yield* saga.audit(Saga.noResends)
      }),
    120_000
  )
})
