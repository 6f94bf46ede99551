import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, FiberRef } from "effect"
import * as Fork from "../../../../src/infra/runtime/tuning/Fork.js"

class Greeting extends Context.Tag("test/Greeting")<Greeting, string>() {}

const word = FiberRef.unsafeMake("none")
const atFork = FiberRef.unsafeMake(0, { fork: (n) => n + 1 })

describe("Fork", () => {
  it.effect("each begins with what the runtime has, as its fork; what one changes no other sees", () =>
    Effect.gen(function*() {
      const fork = Fork.runFork(yield* Effect.runtime<Greeting>())
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

  it.effect("it can be interrupted, and its children with it", () =>
    Effect.gen(function*() {
      const fork = Fork.runFork(yield* Effect.runtime())
      let ended = false
      const child = Effect.never.pipe(Effect.onInterrupt(() => Effect.sync(() => ended = true)))
      const fiber = fork(Effect.zipRight(Effect.fork(child), Effect.zipRight(Effect.yieldNow(), Effect.never)))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      assert.isTrue(ended)
    }))
})
