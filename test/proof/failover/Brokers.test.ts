import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { eventually } from "../../harness/Eventually.js"
import * as Program from "../../harness/Program.js"
import * as Cluster from "../long/Cluster.js"
import * as Saga from "../Saga.js"

class AtCluster extends Context.Tag("test/AtCluster")<
  AtCluster,
  Effect.Effect.Success<ReturnType<typeof Cluster.make>>
>() {}

/** Leaders go back to their preferred replicas within seconds, not five minutes. */
const cluster = Layer.scoped(
  AtCluster,
  Cluster.make({ inSync: 2, properties: { "leader.imbalance.check.interval.seconds": "2" } })
)

const limit = 240_000

/** A world for each delivery, with services that are ready. */
const worlds = Effect.gen(function*() {
  const { url } = yield* AtCluster
  const make = (delivery: string) =>
    Effect.gen(function*() {
      const saga = yield* Saga.make({
        servers: { kafkaBrokers: url },
        env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
      })
      const program = yield* saga.serve()
      yield* program.untilReady
      return { saga, program, strict: { noResends: delivery === "exactly-once" } }
    })
  return [yield* make("at-least-once"), yield* make("exactly-once")] as const
})

/** Load in both worlds before, during and after something that happens, then both verdicts. No attempt may be counted. */
const outlive = Effect.fnUntraced(function*<A, E, R>(
  both: Effect.Effect.Success<typeof worlds>,
  happening: Effect.Effect<A, E, R>
) {
  const loads = yield* Effect.forEach(both, ({ saga }) => saga.load)
  yield* Effect.forEach(both, ({ saga }) => saga.more(), { concurrency: "unbounded" })
  yield* happening
  yield* Effect.forEach(both, ({ saga }) => saga.more(), { concurrency: "unbounded" })
  for (const [i, { saga, strict }] of both.entries()) {
    yield* saga.judge(loads[i]!, strict)
    assert.strictEqual(yield* saga.tables.count("event WHERE attempts > 0"), 0)
  }
})

/** An order that no client of the load knows. */
const waiting = 1_000_000

const more = (both: Effect.Effect.Success<typeof worlds>, count = 25) =>
  Effect.forEach(both, ({ saga }) => saga.more(count), { concurrency: "unbounded" })

layer(cluster, { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P3 P4 P8: three brokers, two in sync",
  (it) => {
    it.scoped(
      "two of three brokers are gone: payments go on, writes wait, and no attempt is counted",
      () =>
        Effect.gen(function*() {
          const cluster = yield* AtCluster
          const both = yield* worlds
          yield* cluster.inSync
          yield* outlive(
            both,
            Effect.gen(function*() {
              for (const { saga } of both) yield* saga.reserved(waiting)
              yield* cluster.broker(2).crash
              yield* cluster.broker(3).crash
              for (const { program, saga } of both) {
                // paying needs no broker, its event does
                assert.strictEqual(yield* saga.ask(waiting), "OK")
                yield* Effect.tap(program.readiness, ({ dependencies, ready }) => {
                  assert.isFalse(ready)
                  assert.isFalse(dependencies["outbox-relay"]?.ok, "the relay says that it works")
                }).pipe(eventually("60 seconds"))
                assert.strictEqual((yield* program.get("/readyz/grpc")).status, 200)
                assert.isAbove(yield* saga.tables.count("event WHERE status = 'WAIT'"), 0)
              }
              yield* Effect.sleep("10 seconds")
              yield* Saga.repair(
                both.map(({ saga }) => saga),
                Effect.all([cluster.broker(2).start, cluster.broker(3).start], { concurrency: "unbounded" })
              )
            })
          )
        }),
      limit
    )

    it.scoped(
      "the active controller is killed, and preferred leaders are elected when its broker is back",
      () =>
        Effect.gen(function*() {
          const cluster = yield* AtCluster
          const both = yield* worlds
          yield* cluster.inSync
          yield* outlive(
            both,
            Effect.gen(function*() {
              const node = yield* cluster.controller(1)
              const witness = node === 1 ? 2 : 1
              yield* cluster.broker(node).crash
              yield* Effect.tap(cluster.controller(witness), (now) => assert.notInclude([node, -1], now)).pipe(
                eventually()
              )
              yield* more(both)
              yield* cluster.broker(node).start
              yield* cluster.inSync
              for (const { saga: { world } } of both) {
                yield* cluster.preferred(world.inventory)
                yield* cluster.preferred(world.payment)
              }
            })
          )
        }),
      limit
    )

    // red when a client keeps its first metadata: the brokers answer NOT_LEADER_FOR_PARTITION, and the events wait
    it.scoped("partitions are reassigned under load, away from a broker and back", () =>
      Effect.gen(function*() {
        const cluster = yield* AtCluster
        const both = yield* worlds
        yield* cluster.inSync
        const topics = both.flatMap(({ saga: { world } }) => [world.inventory, world.payment])
        yield* outlive(
          both,
          Effect.gen(function*() {
            yield* Effect.forEach(topics, (topic) => cluster.reassign(topic, [2, 3]))
            yield* more(both)
            yield* Effect.forEach(topics, (topic) => cluster.reassign(topic, [3, 1, 2]))
            yield* more(both)
          })
        )
      }), limit)

    it.scoped(
      "unclean leader election: the audit names the records that are gone, and outbox replay sends them again",
      () =>
        Effect.gen(function*() {
          const cluster = yield* AtCluster
          const saga = yield* Saga.make({ servers: { kafkaBrokers: cluster.url } })
          const { tables, topics, world } = saga
          const program = yield* saga.serve()
          yield* program.untilReady
          const orders = Effect.gen(function*() {
            const running = yield* saga.load
            yield* saga.more()
            yield* saga.judge(running)
          }).pipe(Effect.scoped)
          yield* orders
          // an installation that accepts loss: two copies, one is enough, and a follower that lags may lead
          yield* cluster.reassign(world.payment, [1, 2])
          yield* topics.configure(world.payment, "unclean.leader.election.enable", "true", {
            "min.insync.replicas": "1"
          })
          yield* cluster.broker(2).stop
          yield* orders
          yield* cluster.broker(1).crash
          yield* cluster.broker(2).start
          yield* cluster.broker(1).destroy
          yield* Saga.repair([saga], topics.ends(world.payment).pipe(eventually("60 seconds")))

          const { faults, verdict } = yield* saga.look()
          assert.isFalse(verdict.clean)
          assert.isAbove(verdict.found["not-on-topic"] ?? 0, 0, JSON.stringify(verdict))
          for (const fault of faults) assert.include(fault, "payments outbox replay --event")
          const replayed = yield* Program.run(
            [
              "outbox",
              "replay",
              "--missing",
              "--yes",
              "--reason",
              "unclean leader election",
              "--operator",
              "night shift"
            ],
            world.env
          )
          assert.strictEqual(replayed.code, 0, replayed.stderr)
          yield* tables.count("event WHERE status <> 'DONE'").pipe(
            Effect.tap((n) => assert.strictEqual(n, 0)),
            eventually("60 seconds")
          )
          const { found } = yield* saga.audit()
          console.log(`lost: ${JSON.stringify(verdict.found)}; after the replay: ${JSON.stringify(found)}`)
        }),
      limit
    )
  }
)

layer(Layer.fresh(cluster), { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P3 P8: a broker of three",
  (it) => {
    // red when NOT_LEADER_FOR_PARTITION counts as a refusal: an event has an attempt
    it.scoped(
      "one broker is gone for good, with its data: two carry on, and a new one takes its place",
      () =>
        Effect.gen(function*() {
          const cluster = yield* AtCluster
          const both = yield* worlds
          yield* cluster.inSync
          yield* outlive(
            both,
            Effect.gen(function*() {
              yield* cluster.broker(1).destroy
              yield* more(both, 50)
              yield* cluster.replace(1)
              yield* cluster.inSync
              // the newcomer is needed now
              yield* cluster.broker(2).crash
              yield* more(both, 25)
              yield* cluster.broker(2).start
              yield* cluster.inSync
            })
          )
        }),
      limit
    )
  }
)
