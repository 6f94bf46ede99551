import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Kind } from "../../chaos/Faults.js"
import { faults } from "../../chaos/Faults.js"
import * as Ground from "../../chaos/Ground.js"

class Network extends Context.Tag("test/Network")<Network, Ground.Ground>() {}

const ground = Ground.make({ instances: 2, ordersPerSecond: 50, delivery: "at-least-once" })

/** The same to each of them, one after the other, for some seconds each. */
const outlives = Effect.fnUntraced(function*(
  what: string,
  servers: ReadonlyArray<"postgres" | "redis" | "kafka"> = ["postgres", "redis", "kafka"]
) {
  const ground = yield* Network
  yield* ground.saga.outlives(Effect.forEach(servers, (server) =>
    Effect.gen(function*() {
      yield* faults[`network: ${server} ${what}` as Kind](ground, { seconds: 3, pick: 0 })
      yield* ground.saga.more(20)
    })))
  assert.deepStrictEqual(ground.deserted, [])
})

layer(Layer.scoped(Network, ground), { timeout: "240 seconds", excludeTestServices: true })(
  "P1 P3 P8: the network",
  (it) => {
    it.effect("connections are cut, and refused", () => outlives("cut"), 240_000)
    it.effect("bytes are late", () => outlives("delayed"), 240_000)
    it.effect("bytes stand still", () => outlives("stalls"), 240_000)
    it.effect(
      "every connection is cut in the middle of an answer",
      () => outlives("answers torn", ["postgres", "kafka"]),
      240_000
    )
    it.effect("requests arrive, and the answers are lost", () => outlives("answers swallowed"), 240_000)
  }
)
