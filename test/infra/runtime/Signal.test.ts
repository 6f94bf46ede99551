import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Signal from "../../../src/infra/runtime/Signal.js"

const settled = Effect.yieldNow({ priority: 1 }).pipe(Effect.repeatN(10))

describe("Signal", () => {
  it.effect("remembers one ring while nobody waits", () =>
    Effect.gen(function*() {
      const bell = Signal.make()
      bell.ring()
      bell.ring()
      yield* bell.rung
      const next = yield* Effect.fork(bell.rung)
      yield* settled
      assert.isTrue(bell.awaited())
      bell.ring()
      yield* Fiber.join(next)
      assert.isFalse(bell.awaited())
    }))

  it.effect("each ring wakes one, who waits longest first", () =>
    Effect.gen(function*() {
      const bell = Signal.make()
      const woken: Array<string> = []
      const waiter = (name: string) => Effect.fork(Effect.map(bell.rung, () => woken.push(name)))
      const fibers = [yield* waiter("first"), yield* waiter("second"), yield* waiter("third")]
      yield* settled
      bell.ring()
      bell.ring()
      yield* settled
      assert.deepStrictEqual(woken, ["first", "second"])
      bell.ring()
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(woken, ["first", "second", "third"])
    }))

  it.effect("who stops waiting takes no ring with it, even when it has just been woken", () =>
    Effect.gen(function*() {
      const bell = Signal.make()
      const [gone, woken, last] = [
        yield* Effect.fork(bell.rung),
        yield* Effect.fork(bell.rung),
        yield* Effect.fork(bell.rung)
      ]
      yield* settled
      yield* Fiber.interrupt(gone)
      // the interruption is in its mailbox before the ring
      woken.unsafeInterruptAsFork(Fiber.id(last))
      bell.ring()
      yield* Fiber.join(last)
    }))
})
