import { assert, describe, it } from "@effect/vitest"
import type { Fiber } from "effect"
import { Effect } from "effect"
import * as Garbage from "../../../../src/infra/runtime/tuning/Garbage.js"

describe("Garbage", () => {
  it("one queue runs the tasks of all fibers in order, urgent ones first", async () => {
    const [one, other] = [Effect.runFork(Effect.void), Effect.runFork(Effect.void)]
    const done: Array<string> = []
    const task = (name: string, priority: number, fiber: Fiber.RuntimeFiber<void>) =>
      Garbage.scheduler.scheduleTask(() => done.push(name), priority, fiber)
    task("late", 1, one)
    task("first", 0, other)
    task("second", 0, one)
    await Promise.resolve()
    await Promise.resolve()
    assert.deepStrictEqual(done, ["first", "second", "late"])
  })
})
