import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { beside } from "../../../src/infra/runtime/Beside.js"

/** Lets all other fibers run. */
const pause = Effect.yieldNow({ priority: 1 }).pipe(Effect.repeatN(10))

describe("beside", () => {
  it.effect("a defect of a helper interrupts the main effect and then fails the whole", () =>
    Effect.gen(function*() {
      let interrupted = false
      const main = Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted = true))
      const exit = yield* Effect.exit(beside(main, [Effect.never, Effect.die("bug")]))
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) === "bug")
      assert.isTrue(interrupted)
    }))

  it.effect("helpers run until an interrupted main effect has finished", () =>
    Effect.gen(function*() {
      const [asked, answered] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const helper = Deferred.await(asked).pipe(
        Effect.zipRight(Deferred.succeed(answered, undefined)),
        Effect.zipRight(Effect.never)
      )
      let finished = false
      const main = Effect.onInterrupt(Effect.never, () =>
        // an interruption of the helper would come first
        pause.pipe(
          Effect.zipRight(Deferred.succeed(asked, undefined)),
          Effect.zipRight(Deferred.await(answered)),
          Effect.zipRight(Effect.sync(() => finished = true))
        ))
      const whole = yield* Effect.fork(beside(main, [helper]))
      yield* pause
      yield* Fiber.interrupt(whole)
      assert.isTrue(finished)
    }))
})
