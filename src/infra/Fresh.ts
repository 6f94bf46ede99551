import type { Exit } from "effect"
import { Clock, Duration, Effect, Option } from "effect"

/**
 * Shares one run of an effect among all who ask within `maxAge` of its end, failure included.
 *
 * Who asks during a run waits for it. A run that is interrupted leaves nothing behind: the next in line runs it again.
 */
export const fresh = (maxAge: Duration.DurationInput) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.makeSemaphore(1), (gate) => {
    // by a clock that never jumps: one that is set back would keep the last run for as long
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
