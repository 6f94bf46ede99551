import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import * as KafkaVersions from "../../harness/KafkaVersions.js"
import * as Cluster from "../long/Cluster.js"
import * as Saga from "../Saga.js"

describe("P1 P3 P4 P8: brokers that are upgraded", () => {
  it.scopedLive(
    "three brokers are upgraded one after the other under load, then their features, with both deliveries",
    () =>
      Effect.gen(function*() {
        const libraries = yield* KafkaVersions.nextLibraries
        const cluster = yield* Cluster.make({ inSync: 2 })
        const features = (...args: ReadonlyArray<string>) =>
          KafkaVersions.tool(
            libraries,
            "org.apache.kafka.tools.FeatureCommand",
            "--bootstrap-server",
            cluster.url,
            ...args
          )
        const level = Effect.map(
          features("describe"),
          (text) => /metadata\.version\s.*FinalizedVersionLevel: (\S+)/.exec(text)?.[1] ?? text
        )
        const shared = { servers: { kafkaBrokers: cluster.url }, ordersPerSecond: 10 }
        const sagas = [
          yield* Saga.make({ ...shared, env: { OUTBOX_LEASE: "5s" } }),
          yield* Saga.make({ ...shared, env: { OUTBOX_LEASE: "5s", OUTBOX_DELIVERY: "exactly-once" } })
        ] as const
        const more = (count: number) => Effect.forEach(sagas, (saga) => saga.more(count), { concurrency: "unbounded" })
        const programs = [yield* sagas[0].serve(), yield* sagas[1].serve()] as const
        yield* Effect.forEach(programs, (program) => program.untilReady, { concurrency: "unbounded" })
        const loads = yield* Effect.forEach(sagas, (saga) => saga.load)
        yield* more(25)
        const before = yield* level
        assert.match(before, /^4\.1-/)
        const began = yield* Clock.currentTimeMillis
        for (const node of [1, 2, 3]) {
          const { log, start, stop, upgrade } = cluster.broker(node)
          yield* cluster.inSync
          yield* stop
          yield* more(10)
          yield* upgrade(libraries)
          yield* start
          assert.include(yield* log, `Kafka version: ${KafkaVersions.next}`)
          yield* more(10)
        }
        yield* cluster.inSync
        const seconds = ((yield* Clock.currentTimeMillis) - began) / 1_000
        // new records and requests are allowed only now
        const release = KafkaVersions.next.split(".").slice(0, 2).join(".")
        yield* features("upgrade", "--release-version", release)
        const after = yield* level.pipe(
          Effect.tap((text) => assert.match(text, new RegExp(`^${release}-`))),
          eventually()
        )
        yield* more(50)
        yield* Effect.all([
          sagas[0].judge(loads[0]!),
          sagas[1].judge(loads[1]!, Saga.noResends)
        ], { concurrency: "unbounded" })
        for (const saga of sagas) {
          assert.strictEqual(yield* saga.tables.count("event WHERE attempts > 0"), 0)
        }
        console.log(`${before} to ${after} in ${seconds} s`)
      }),
    300_000
  )
})
