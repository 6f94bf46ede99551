import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Program from "../../harness/Program.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
import { overtaken, says } from "../Instances.js"
import { sharedOf } from "../Relaying.js"
import * as Saga from "../Saga.js"

const limit = 360_000

describe("P1 P2 P4 P6 P10: machines and their networks", () => {
  for (const delivery of ["at-least-once", "exactly-once"]) {
    it.scopedLive(
      `${delivery}: the machine is suspended for two minutes: servers, service, all of it`,
      () =>
        Effect.gen(function*() {
          const [postgres, redis, kafka] = yield* Effect.all([
            Restartable.make("postgres"),
            Restartable.make("redis"),
            Restartable.make("kafka")
          ], { concurrency: "unbounded" })
          const servers = [postgres, redis, kafka]
          const saga = yield* Saga.make({
            servers: { databaseUrl: postgres.url, redisUrl: redis.url, kafkaBrokers: kafka.url },
            env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
          })
          const programs = yield* Effect.replicateEffect(saga.serve(), 2)
          yield* Effect.forEach(programs, (program) => program.untilReady)
          // red when a claim leaves out events whose lease has ended: they wait for ever
          // red when a takeover takes the last batch for committed, whatever number the broker has: it is not on the topic
          // red when a member goes on after UNKNOWN_MEMBER_ID: no offset is committed any more
          yield* saga.outlives(
            Effect.gen(function*() {
              yield* Effect.forEach(programs, (program) => program.signal("SIGSTOP"))
              yield* Effect.forEach(servers, ({ freeze }) => freeze)
              yield* Effect.sleep("2 minutes")
              yield* Saga.repair(
                [saga],
                Effect.zipRight(
                  Effect.forEach(servers, ({ thaw }) => thaw),
                  Effect.forEach(programs, (program) => program.signal("SIGCONT"))
                )
              )
            }),
            { noResends: delivery === "exactly-once" }
          )
        }),
      limit
    )
  }

  for (const delivery of ["at-least-once", "exactly-once"]) {
    it.scopedLive(
      `${delivery}: four instances, one is cut off from the database, from the broker, from both, and healed: the others go on`,
      () =>
        Effect.gen(function*() {
          const postgres = yield* Restartable.make("postgres")
          const front = yield* freePort
          const { behind, broker, front: brokers } = yield* Restartable.makeBrokerBehind(front)
          const toDatabase = yield* Proxy.make(postgres.url)
          const toBroker = yield* Proxy.make(behind, front)
          const saga = yield* Saga.make({
            servers: { databaseUrl: postgres.url, kafkaBrokers: broker.url },
            env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s", KAFKA_SESSION_TIMEOUT: "6s" }
          })
          const { tables, topics, world } = saga
          const members = (count: number) =>
            Effect.tap(topics.members(world.group), (n) => Effect.sync(() => assert.strictEqual(n, count, "members")))
              .pipe(eventually("60 seconds"))
          /** Ends when all events are sent that are written now. */
          const sent = Effect.gen(function*() {
            const [last] = yield* tables.query<{ readonly id: string }>("SELECT max(id) AS id FROM event")
            yield* Effect.tap(
              tables.count(`event WHERE status = 'WAIT' AND id <= ${last!.id}`),
              (waiting) => Effect.sync(() => assert.strictEqual(waiting, 0, "events that wait"))
            ).pipe(eventually("60 seconds"))
          })
          const others = yield* Effect.replicateEffect(saga.serve(), 3)
          const cut = yield* saga.serve([], { DATABASE_URL: toDatabase.url, KAFKA_BROKERS: brokers })
          yield* cut.untilReady
          // an instance without a shard would hold nothing
          const { code, stderr } = yield* Program.run(["shards", "--count", "4"], world.env)
          assert.strictEqual(code, 0, stderr)
          const shared = delivery === "exactly-once" ? sharedOf(4, cut, ...others) : Effect.void
          const reports = (part: string) =>
            Effect.tap(cut.readiness, ({ dependencies, ready }) => {
              assert.isFalse(ready)
              assert.isFalse(dependencies[part]?.ok, `${part} works`)
            }).pipe(eventually("60 seconds"))
          for (const links of [[toDatabase], [toBroker], [toDatabase, toBroker]]) {
            yield* shared
            yield* saga.outlives(
              Effect.gen(function*() {
                // as a network that drops: connections stay open, and nothing arrives
                yield* Effect.forEach(links, (link) => Effect.zipRight(link.set("silent"), link.lose))
                yield* reports(links[0] === toDatabase ? "postgres" : "outbox-relay")
                // red when an instance without the database keeps its partitions: their orders do not begin
                yield* members(3)
                yield* overtaken(saga)
                yield* saga.more(100)
                // red when the relay of an instance that reaches no broker keeps what it holds
                yield* sent
                yield* Saga.repair([saga], Effect.forEach(links, (link) => link.set("pass")))
                yield* members(4)
              }),
              { noResends: delivery === "exactly-once" }
            )
          }
        }),
      limit
    )
  }

  const steps = [-3_600_000, 7_200_000, -3_600_000]
  const stepped = {
    NODE_OPTIONS: `--import=${new URL("../preload/SteppedClock.mjs", import.meta.url).href}`,
    CLOCK_STEPS_MILLIS: steps.join()
  }

  it.scopedLive("the clock is set by an hour, back and forward, while the service runs", () =>
    Effect.forEach(
      ["at-least-once", "exactly-once"],
      Effect.fnUntraced(function*(delivery) {
        const saga = yield* Saga.make({
          env: { ...stepped, OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" },
          ordersPerSecond: 10
        })
        const program = yield* saga.serve()
        yield* program.untilReady
        yield* saga.outlives(
          Effect.forEach(steps, (step) =>
            Effect.gen(function*() {
              yield* program.signal("SIGUSR2")
              yield* says(program, `the clock is set by ${step} ms`)
              // a member whose heartbeats stop is removed after 6 s, and commits nothing then
              yield* Effect.sleep("8 seconds")
              yield* overtaken(saga)
              yield* saga.more()
              yield* program.untilReady
            })),
          Saga.noResends
        )
      }),
      { concurrency: "unbounded" }
    ), limit)

  /** Sets how many files a process may open. What is open stays open. */
  const mayOpen = (pid: number, files: number) =>
    Effect.sync(() => execFileSync("prlimit", ["--pid", String(pid), `--nofile=${files}:`]))

  it.scopedLive("a process has no file descriptor left, and gets more", () =>
    Effect.gen(function*() {
      const postgres = yield* Restartable.make("postgres")
      const proxy = yield* Proxy.make(postgres.url)
      const saga = yield* Saga.make({ servers: { databaseUrl: proxy.url }, env: { OUTBOX_LEASE: "5s" } })
      const program = yield* saga.serve()
      yield* program.untilReady
      yield* saga.outlives(Effect.gen(function*() {
        yield* mayOpen(program.pid, 10)
        // what it needs now are new connections
        yield* proxy.cut
        yield* says(program, "EMFILE")
        const refused = saga.answered("UNAVAILABLE")
        yield* Effect.sync(() => assert.isAbove(saga.answered("UNAVAILABLE"), refused)).pipe(eventually())
        yield* Saga.repair([saga], mayOpen(program.pid, 4_096))
      }))
    }), limit)
})
