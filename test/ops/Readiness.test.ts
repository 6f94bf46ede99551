import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Ref, TestClock } from "effect"
import { cached } from "../../src/infra/runtime/Cached.js"
import { Readiness } from "../../src/infra/runtime/Readiness.js"

const since = (readiness: Readiness, name: string) =>
  Effect.map(readiness.current, ({ dependencies }) => Date.parse(dependencies[name]!.since))

describe("Readiness", () => {
  it.effect("since is the time of the change, not of the last report", () =>
    Effect.gen(function*() {
      const readiness = yield* Readiness
      yield* TestClock.setTime(1_000)
      yield* readiness.set("broker", { reason: "away" })
      yield* TestClock.setTime(2_000)
      yield* readiness.set("broker", { reason: "still away" })
      assert.strictEqual(yield* since(readiness, "broker"), 1_000)
      const { dependencies } = yield* readiness.current
      assert.strictEqual(dependencies["broker"]?.reason, "still away")
      yield* TestClock.setTime(3_000)
      yield* readiness.set("broker", "ok")
      assert.strictEqual(yield* since(readiness, "broker"), 3_000)
    }).pipe(Effect.provide(Readiness.Default({ required: ["broker"] }))))

  it.effect("a dependency with several reporters is ok when none of them reports a reason", () =>
    Effect.gen(function*() {
      const readiness = yield* Readiness
      const reason = Effect.map(readiness.current, ({ dependencies }) => dependencies["consumer"]?.reason)
      yield* readiness.set("consumer", "ok", "batches")
      assert.strictEqual(yield* reason, "starting")
      yield* readiness.set("consumer", "ok")
      assert.isUndefined(yield* reason)
      yield* readiness.set("consumer", { reason: "no database" }, "batches")
      yield* readiness.set("consumer", "ok")
      assert.strictEqual(yield* reason, "no database")
      yield* readiness.set("consumer", { reason: "no group" })
      assert.strictEqual(yield* reason, "no database; no group")
      yield* readiness.set("consumer", "ok", "batches")
      assert.strictEqual(yield* reason, "no group")
    }).pipe(Effect.provide(Readiness.Default({ required: ["consumer"] }))))

  it.effect("an undeclared dependency is shown and not required", () =>
    Effect.gen(function*() {
      const readiness = yield* Readiness
      yield* readiness.set("extra", { reason: "away" })
      const { dependencies, ready } = yield* readiness.current
      assert.isTrue(ready)
      assert.isFalse(dependencies["extra"]?.required)
      assert.isFalse(yield* readiness.isOk("extra"))
      assert.isFalse(yield* readiness.isOk("nobody"))
    }).pipe(Effect.provide(Readiness.Default({ required: [] }))))
})

describe("fresh", () => {
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
