import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Ref, TestClock } from "effect"
import { cached } from "../../../src/infra/runtime/Cached.js"

describe("cached", () => {
  it.effect("shares a run until it is too old, failure included", () =>
    Effect.gen(function*() {
      const runs = yield* Ref.make(0)
      const shared = yield* cached("1 second")(Effect.flip(Ref.updateAndGet(runs, (n) => n + 1)))
      const ask = Effect.flip(shared)
      assert.deepStrictEqual(yield* Effect.all([ask, ask, ask], { concurrency: "unbounded" }), [1, 1, 1])
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(yield* ask, 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* ask, 2)
    }))

  it.effect("keeps a failure for a time of its own", () =>
    Effect.gen(function*() {
      const runs = yield* Ref.make(0)
      const shared = yield* cached("1 minute", 0)(
        Effect.filterOrFail(Ref.updateAndGet(runs, (n) => n + 1), (n) => n === 2, () => "failed" as const)
      )
      assert.strictEqual(yield* Effect.flip(shared), "failed")
      assert.deepStrictEqual([yield* shared, yield* shared], [2, 2])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Effect.flip(shared), "failed")
    }))

  it.effect("an interrupted run is not what the others get", () =>
    Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      const first = yield* Ref.make(true)
      const shared = yield* cached("1 second")(
        Effect.flatMap(Ref.getAndSet(first, false), (first) =>
          first ? Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never) : Effect.succeed("answer"))
      )
      const leaves = yield* Effect.fork(shared)
      yield* Deferred.await(begun)
      const stays = yield* Effect.fork(shared)
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(leaves)))
      assert.strictEqual(yield* Fiber.join(stays), "answer")
    }))
})
