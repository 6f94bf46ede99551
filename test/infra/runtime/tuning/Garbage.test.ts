import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Runtime } from "effect"
import * as Garbage from "../../../../src/infra/runtime/tuning/Garbage.js"
import * as Heap from "../../../harness/Heap.js"

/** Starts fibers with two kilobytes each and ends each after a hundred more. Returns the bytes that became old. */
const passThrough = () => {
  const runFork = Runtime.runFork(Runtime.defaultRuntime)
  const ends: Array<() => void> = []
  const begin = () => {
    const values = Array.from({ length: 32 }, (_, i) => ({ i }))
    runFork(
      Effect.async<number>((resume) => {
        ends.push(() => resume(Effect.succeed(values.length)))
      }),
      { scheduler: Garbage.scheduler }
    )
    if (ends.length > 100) ends.shift()!()
  }
  for (let n = 0; n < 20_000; n++) begin()
  return Heap.grownOld(60_000, begin)
}

describe("Garbage", () => {
  it("a fiber without a parent is collectable while young", async () => {
    Garbage.staysYoung()
    const fiber = Effect.runFork(Effect.never)
    assert.notInclude(Fiber.unsafeRoots(), fiber)
    await Effect.runPromise(Fiber.interrupt(fiber))
    const after = await passThrough()
    assert.isBelow(after, 8_000_000)
  })

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
