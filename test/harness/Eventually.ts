import { Clock, Duration, Effect, Exit } from "effect"

/** Repeats a check until it succeeds. After `within` it fails as the last attempt did, assertions included. */
export const eventually =
  (within: Duration.DurationInput = "30 seconds", pause: Duration.DurationInput = "20 millis") =>
  <A, E, R>(check: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.gen(function*() {
      const end = (yield* Clock.currentTimeMillis) + Duration.toMillis(within)
      for (;;) {
        const exit = yield* Effect.exit(check)
        if (Exit.isSuccess(exit)) return exit.value
        if ((yield* Clock.currentTimeMillis) > end) return yield* exit
        yield* Effect.sleep(pause)
      }
    })

/** Repeats `look` until its result holds, and returns that. Dies with the last result after `within`. */
export const until = <A, E, R>(
  look: Effect.Effect<A, E, R>,
  holds: (a: A) => boolean,
  within: Duration.DurationInput = "30 seconds"
): Effect.Effect<A, never, R> =>
  look.pipe(
    Effect.filterOrFail(holds, (last) =>
      new Error(`not so yet: ${
        JSON.stringify(last, (_, value) => typeof value === "bigint" ? String(value) : value)
      }`)),
    eventually(within),
    Effect.orDie
  )
