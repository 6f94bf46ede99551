import type { Duration } from "effect"
import { Effect, Fiber } from "effect"

/** Runs `work`. On interruption it runs `onStop`, and then waits for the end of the work `within` a time before it interrupts it. */
export const finish = <A, E, R, R2>(
  work: Effect.Effect<A, E, R>,
  options: { readonly onStop: Effect.Effect<void, never, R2>; readonly within: Duration.DurationInput }
): Effect.Effect<A, E, R | R2> =>
  Effect.flatMap(Effect.forkDaemon(work), (fiber) =>
    Effect.onInterrupt(Fiber.join(fiber), () =>
      options.onStop.pipe(
        Effect.zipRight(Fiber.await(fiber)),
        Effect.interruptible,
        Effect.timeoutOption(options.within),
        Effect.zipRight(Fiber.interruptFork(fiber))
      )))
