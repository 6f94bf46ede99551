import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
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
          yield* saga.outlives(
            Effect.acquireUseRelease(
              Effect.all([
                ...programs.map((program) => program.signal("SIGSTOP")),
                ...servers.map(({ freeze }) => freeze)
              ]),
              () => Effect.sleep("2 minutes"),
              () =>
                Effect.all([
                  ...servers.map(({ thaw }) => thaw),
                  ...programs.map((program) => program.signal("SIGCONT"))
                ])
            ),
            { noResends: delivery === "exactly-once" }
          )
          yield* Effect.forEach(programs, (program) => program.untilReady)
        }),
      limit
    )
  }

  it.scopedLive(
    "four instances, one is cut off from the database, from the broker, from both, and healed: the others go on",
    () =>
      Effect.gen(function*() {
        const postgres = yield* Restartable.make("postgres")
        const front = yield* freePort
        const { behind, broker, front: brokers } = yield* Restartable.makeBrokerBehind(front)
        const toDatabase = yield* Proxy.make(postgres.url)
        const toBroker = yield* Proxy.make(behind, front)
        const saga = yield* Saga.make({
          servers: { databaseUrl: postgres.url, kafkaBrokers: broker.url },
          env: { OUTBOX_LEASE: "5s" }
        })
        yield* Effect.replicateEffect(saga.serve([], { OUTBOX_DELIVERY: "exactly-once" }), 1)
        yield* Effect.replicateEffect(saga.serve(), 2)
        const cut = yield* saga.serve([], { DATABASE_URL: toDatabase.url, KAFKA_BROKERS: brokers })
        yield* cut.untilReady
        const says = (part: string) =>
          Effect.tap(cut.readiness, ({ dependencies, ready }) => {
            assert.isFalse(ready)
            assert.isFalse(dependencies[part]?.ok, `${part} works`)
          }).pipe(eventually("60 seconds"))
        for (const links of [[toDatabase], [toBroker], [toDatabase, toBroker]]) {
          yield* saga.outlives(Effect.gen(function*() {
            // as a network that drops: connections stay open, and nothing arrives
            yield* Effect.forEach(links, (link) => Effect.zipRight(link.set("silent"), link.lose))
            yield* says(links[0] === toDatabase ? "postgres" : "outbox-relay")
            yield* saga.more(50)
            yield* Effect.forEach(links, (link) => link.set("pass"))
            yield* cut.untilReady
          }))
        }
      }),
    limit
  )
})
