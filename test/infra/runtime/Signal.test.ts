import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Signal from "../../../src/infra/runtime/Signal.js"

const settled = Effect.yieldNow({ priority: 1 }).pipe(Effect.repeatN(10))

describe("Signal", () => {
  it.effect("keeps one notification while no fiber waits", () =>
    Effect.gen(function*() {
      const signal = Signal.make()
      signal.notify()
      signal.notify()
      yield* signal.wait
      const next = yield* Effect.fork(signal.wait)
      yield* settled
      assert.isTrue(signal.awaited())
      signal.notify()
      yield* Fiber.join(next)
      assert.isFalse(signal.awaited())
    }))

  it.effect("each notification wakes the fiber that waits longest", () =>
    Effect.gen(function*() {
      const signal = Signal.make()
      const woken: Array<string> = []
      const waiter = (name: string) => Effect.fork(Effect.map(signal.wait, () => woken.push(name)))
      const fibers = [yield* waiter("first"), yield* waiter("second"), yield* waiter("third")]
      yield* settled
      signal.notify()
      signal.notify()
      yield* settled
      assert.deepStrictEqual(woken, ["first", "second"])
      signal.notify()
      yield* Fiber.joinAll(fibers)
      assert.deepStrictEqual(woken, ["first", "second", "third"])
    }))

  it.effect("an interrupted waiter passes its notification on", () =>
    Effect.gen(function*() {
      const signal = Signal.make()
      const [gone, woken, last] = [
        yield* Effect.fork(signal.wait),
        yield* Effect.fork(signal.wait),
        yield* Effect.fork(signal.wait)
      ]
      yield* settled
      yield* Fiber.interrupt(gone)
      // the interruption is in its mailbox before the notification
      woken.unsafeInterruptAsFork(Fiber.id(last))
      signal.notify()
      yield* Fiber.join(last)
    }))
})
