import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import * as Cluster from "../long/Cluster.js"
import * as Saga from "../Saga.js"

describe("P1 P3 P4 P8: brokers that roll", () => {
  it.scopedLive(
    "three brokers restart one after the other under load, with both deliveries: nothing is lost",
    () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster.make({ inSync: 2 })
        const shared = { servers: { kafkaBrokers: cluster.url }, ordersPerSecond: 10 }
        const sagas = [
          yield* Saga.make({ ...shared, env: { OUTBOX_LEASE: "5s" } }),
          yield* Saga.make({ ...shared, env: { OUTBOX_LEASE: "5s", OUTBOX_DELIVERY: "exactly-once" } })
        ] as const
        const programs = [yield* sagas[0].serve(), yield* sagas[1].serve()] as const
        yield* Effect.forEach(programs, (program) => program.untilReady, { concurrency: "unbounded" })
        const loads = yield* Effect.forEach(sagas, (saga) => saga.load)
        yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
        const began = yield* Clock.currentTimeMillis
        for (const node of [1, 2, 3]) {
          const { start, stop } = cluster.broker(node)
          yield* cluster.inSync
          yield* stop
          // two of three have each record: enough
          yield* Effect.forEach(sagas, (saga) => saga.more(10), { concurrency: "unbounded" })
          yield* start
        }
        yield* cluster.inSync
        const seconds = ((yield* Clock.currentTimeMillis) - began) / 1_000
        yield* Effect.all([
          sagas[0].judge(loads[0]!),
          sagas[1].judge(loads[1]!, Saga.noResends)
        ], { concurrency: "unbounded" })
        for (const saga of sagas) {
          // attempts count refusals alone
          assert.strictEqual(yield* saga.tables.count("event WHERE attempts > 0"), 0)
        }
        console.log(`rolled in ${seconds} s`)
      }),
    240_000
  )
})
