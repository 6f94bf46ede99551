import { describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import * as Cluster from "../long/Cluster.js"
import * as Both from "./Both.js"

describe("P1 P3 P4 P8: brokers that roll", () => {
  it.scopedLive(
    "three brokers restart one after the other under load, with both deliveries: nothing is lost",
    () =>
      Effect.gen(function*() {
        const cluster = yield* Cluster.make({ inSync: 2 })
        const { judge, more } = yield* Both.underLoad(cluster.url, 10)
        const began = yield* Clock.currentTimeMillis
        for (const node of [1, 2, 3]) {
          const { start, stop } = cluster.broker(node)
          yield* cluster.inSync
          yield* stop
          // two of three have each record: enough
          yield* more(10)
          yield* start
        }
        yield* cluster.inSync
        const seconds = ((yield* Clock.currentTimeMillis) - began) / 1_000
        yield* judge
        console.log(`rolled in ${seconds} s`)
      }),
    240_000
  )
})
