import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Signal from "../../../src/infra/runtime/Signal.js"

const settled = Effect.yieldNow({ priority: 1 }).pipe(Effect.repeatN(10))

describe("Signal", () => {
  it.effect("keeps one pending ring without a waiter", () =>
    Effect.gen(function*() {
      const signal = Signal.make()
      signal.ring()
      signal.ring()
      yield* signal.rung
      const next = yield* Effect.fork(signal.rung)
      yield* settled
      assert.isTrue(signal.awaited())
      signal.ring()
      yield* Fiber.join(next)
      assert.isFalse(signal.awaited())
    }))

  it.effect("each ring wakes the longest waiter", () =>
    Effect.gen(function*() {
      const signal = Signal.make()
      const woken: Array<string> = []
      const waiter = (name: string) => Effect.fork(Effect.map(signal.rung, () => woken.push(name)))
      const fibers = [yield* waiter("first"), yield* waiter("second"), yield* waiter("third")]
      yield* settled
      signal.ring()
      signal.ring()
      yield* settled
      assert.deepStrictEqual(woken, ["first", "second"])
      signal.ring()
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(woken, ["first", "second", "third"])
    }))

  it.effect("an interrupted waiter loses no ring, also when it was just woken", () =>
    Effect.gen(function*() {
      const signal = Signal.make()
      const [gone, woken, last] = [
        yield* Effect.fork(signal.rung),
        yield* Effect.fork(signal.rung),
        yield* Effect.fork(signal.rung)
      ]
      yield* settled
      yield* Fiber.interrupt(gone)
      // the interruption reaches the fiber's mailbox before the ring
      woken.unsafeInterruptAsFork(Fiber.id(last))
      signal.ring()
      yield* Fiber.join(last)
    }))
})
