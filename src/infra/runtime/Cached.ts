import { Clock, Duration, Effect, Exit, Option } from "effect"

/**
 * Caches the result of an effect for `maxAge` after its end, and a failure for `maxAgeOfFailure`, by default the same.
 *
 * Callers during a run wait for that run. An interrupted run is not cached: the next caller runs the effect again.
 */
export const cached =
  (maxAge: Duration.DurationInput, maxAgeOfFailure = maxAge) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.map(Effect.makeSemaphore(1), (gate) => {
      // a monotonic clock: a wall clock that is set back would keep the last run too long
      const nanos = (age: Duration.DurationInput) => BigInt(Math.round(Duration.toMillis(age) * 1e6))
      const [ofSuccess, ofFailure] = [nanos(maxAge), nanos(maxAgeOfFailure)]
      let last = Option.none<{ readonly exit: Exit.Exit<A, E>; readonly at: bigint }>()
      const run = Effect.gen(function*() {
        const now = yield* Clock.currentTimeNanos
        if (Option.isSome(last)) {
          const { at, exit } = last.value
          if (now - at < (Exit.isSuccess(exit) ? ofSuccess : ofFailure)) return yield* exit
        }
        const exit = yield* Effect.exit(effect)
        last = Option.some({ exit, at: yield* Clock.currentTimeNanos })
        return yield* exit
      })
      return gate.withPermits(1)(run)
    })
