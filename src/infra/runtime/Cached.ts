import type { Exit } from "effect"
import { Clock, Duration, Effect, Option } from "effect"

/**
 * Caches the result of an effect, failure included, for `maxAge` after its end.
 *
 * Callers during a run wait for that run. An interrupted run is not cached: the next caller runs the effect again.
 */
export const cached = (maxAge: Duration.DurationInput) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.makeSemaphore(1), (gate) => {
    // a monotonic clock: a wall clock that is set back would keep the last run too long
    const maxNanos = BigInt(Math.round(Duration.toMillis(maxAge) * 1e6))
    let last = Option.none<{ readonly exit: Exit.Exit<A, E>; readonly at: bigint }>()
    const run = Effect.gen(function*() {
      const now = yield* Clock.currentTimeNanos
      if (Option.isSome(last) && now - last.value.at < maxNanos) return yield* last.value.exit
      const exit = yield* Effect.exit(effect)
      last = Option.some({ exit, at: yield* Clock.currentTimeNanos })
      return yield* exit
    })
    return gate.withPermits(1)(run)
  })
