import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Ref, Schedule, TestClock } from "effect"
import { retry } from "../../../src/infra/runtime/Retry.js"

const failing = (times: number, error = "passing") =>
  Effect.map(Ref.make(0), (runs) => ({
    runs: Ref.get(runs),
    effect: Effect.flatMap(Ref.updateAndGet(runs, (_) => _ + 1), (run) =>
      run > times ? Effect.succeed(run) : Effect.fail(error))
  }))
const schedule = Schedule.intersect(Schedule.exponential("10 millis"), Schedule.recurs(3))
const again = retry(schedule, (error: string) => error === "passing")

describe("retry", () => {
  it.effect("repeats by the schedule and not at once", () =>
    Effect.gen(function*() {
      const { effect, runs } = yield* failing(2)
      const fiber = yield* Effect.fork(again(effect))
      yield* TestClock.adjust("9 millis")
      assert.strictEqual(yield* runs, 1)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* runs, 2)
      yield* TestClock.adjust("20 millis")
      assert.strictEqual(yield* Fiber.join(fiber), 3)
    }))

  it.effect("ends with the schedule, with the last failure", () =>
    Effect.gen(function*() {
      const { effect, runs } = yield* failing(100)
      const fiber = yield* Effect.fork(Effect.flip(again(effect)))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(fiber), "passing")
      assert.strictEqual(yield* runs, 4)
    }))

  it.effect("does not repeat a failure that is not passing, also after a passing one", () =>
    Effect.gen(function*() {
      const { effect, runs } = yield* failing(1, "for good")
      assert.strictEqual(yield* Effect.flip(again(effect)), "for good")
      assert.strictEqual(yield* runs, 1)
      const errors = ["passing", "for good", "passing"]
      const mixed = Effect.suspend(() => Effect.fail(errors.shift()!))
      const fiber = yield* Effect.fork(Effect.flip(again(mixed)))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* Fiber.join(fiber), "for good")
    }))
})
