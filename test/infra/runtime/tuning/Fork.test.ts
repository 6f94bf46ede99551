import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, FiberRef, Runtime } from "effect"
import * as Fork from "../../../../src/infra/runtime/tuning/Fork.js"

class Greeting extends Context.Tag("test/Greeting")<Greeting, string>() {}

const word = FiberRef.unsafeMake("none")
const atFork = FiberRef.unsafeMake(0, { fork: (n) => n + 1 })

/** The library's function and its replacement. */
const forks: ReadonlyArray<readonly [string, typeof Fork.runFork]> = [
  ["Effect", (runtime) => (effect) => Runtime.runFork(runtime, effect)],
  ["Fork", Fork.runFork]
]

describe.each(forks)("runFork of %s", (_, runFork) => {
  it.effect("a fiber starts with the runtime's references, forked, and shares no change", () =>
    Effect.gen(function*() {
      const fork = runFork(yield* Effect.runtime<Greeting>())
      const seen = Effect.all([Greeting, FiberRef.get(word), FiberRef.get(atFork)])
      const first = fork(Effect.zip(seen, Effect.zipRight(FiberRef.set(word, "changed"), FiberRef.get(word))))
      const second = fork(seen)
      const begun = ["hello", "given", 6]
      assert.deepStrictEqual(yield* Fiber.join(first), [begun, "changed"])
      assert.deepStrictEqual(yield* Fiber.join(second), begun)
      assert.deepStrictEqual(yield* Fiber.join(fork(Effect.provideService(seen, Greeting, "other"))), [
        "other",
        "given",
        6
      ])
    }).pipe(Effect.locally(word, "given"), Effect.locally(atFork, 5), Effect.provideService(Greeting, "hello")))

  it.effect("an interruption reaches the fiber and its children", () =>
    Effect.gen(function*() {
      const fork = runFork(yield* Effect.runtime())
      let ended = false
      const child = Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => ended = true)))
      const fiber = fork(Effect.zipRight(Effect.fork(child), Effect.zipRight(Effect.yieldNow(), Effect.never)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      assert.isTrue(ended)
    }))
})
