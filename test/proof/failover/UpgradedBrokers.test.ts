import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import * as KafkaVersions from "../../harness/KafkaVersions.js"
import * as Cluster from "../long/Cluster.js"
import * as Both from "./Both.js"

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
        const { judge, more } = yield* Both.underLoad(cluster.url, 10)
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
        yield* judge
        console.log(`${before} to ${after} in ${seconds} s`)
      }),
    300_000
  )
})
