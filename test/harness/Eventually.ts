import { Clock, Duration, Effect, Exit } from "effect"

/** Looks again and again until the look succeeds. After `within` it fails as the last look did, assertions included. */
export const eventually =
  (within: Duration.DurationInput = "30 seconds", pause: Duration.DurationInput = "20 millis") =>
  <A, E, R>(look: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.gen(function*() {
      const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(within)
      for (;;) {
        const exit = yield* Effect.exit(look)
        if (Exit.isSuccess(exit)) return exit.value
        if ((yield* Clock.currentTimeMillis) > end) return yield* exit
        yield* Effect.sleep(pause)
      }
    })
