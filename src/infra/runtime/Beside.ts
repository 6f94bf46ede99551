import { Effect, FiberSet } from "effect"

/**
 * Runs `main`, and effects that never end beside it. They live until `main` has ended, also while it finishes its work after
 * an interruption. What fails of them fails the whole, after `main` was interrupted: no fiber ends unheard.
 */
export const beside = <E, R, E2, R2>(
  main: Effect.Effect<never, E, R>,
  others: ReadonlyArray<Effect.Effect<never, E2, R2>>
): Effect.Effect<never, E | E2, R | R2> =>
  Effect.gen(function*() {
    const fibers = yield* FiberSet.make<never, E2>()
    for (const other of others) yield* FiberSet.run(fibers, other)
    // not a race: that is interrupted before `main` has finished what it has in hand
    return yield* Effect.all([main, FiberSet.join(fibers)], { concurrency: "unbounded" })
  }).pipe(Effect.scoped, Effect.zipRight(Effect.never))
