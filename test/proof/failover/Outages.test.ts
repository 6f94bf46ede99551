import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Restartable from "../../harness/Restartable.js"
import * as Saga from "../Saga.js"

/** Longer than the sessions and the leases, which are those of the default settings: others run with shorter ones. */
const outage = "35 seconds"

describe("P1 P3 P8 P12: outages with the default settings", () => {
  it.scopedLive.each(["at-least-once", "exactly-once"] as const)(
    "PostgreSQL, Kafka and Redis are killed and then frozen for half a minute, delivery %s: two instances are ready again",
    (delivery) =>
      Effect.gen(function*() {
        const [postgres, kafka, redis] = yield* Effect.all([
          Restartable.make("postgres"),
          Restartable.make("kafka"),
          Restartable.make("redis")
        ], { concurrency: "unbounded" })
        const saga = yield* Saga.make({
          servers: { databaseUrl: postgres.url, kafkaBrokers: kafka.url, redisUrl: redis.url },
          env: { OUTBOX_DELIVERY: delivery }
        })
        yield* Effect.replicateEffect(saga.serve([], {}, { whenReady: true }), 2)
        yield* saga.outlives(
          Effect.forEach([postgres, kafka, redis], ({ crash, freeze, start, thaw }) =>
            Effect.gen(function*() {
              yield* crash
              yield* Effect.sleep(outage)
              yield* Saga.repair([saga], start)
              yield* freeze
              yield* Effect.sleep(outage)
              yield* Saga.repair([saga], thaw)
            })),
          { noResends: delivery === "exactly-once" }
        )
      }),
    600_000
  )
})
