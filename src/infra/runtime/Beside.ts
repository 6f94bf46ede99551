import { Effect, FiberSet } from "effect"

/**
 * Runs `main` with never-ending helpers beside it. The helpers run until `main` has ended, also while an interrupted `main`
 * finishes its work. A failure of a helper interrupts `main` and then fails the whole effect.
 */
export const beside = <E, R, E2, R2>(
  main: Effect.Effect<never, E, R>,
  others: ReadonlyArray<Effect.Effect<never, E2, R2>>
): Effect.Effect<never, E | E2, R | R2> =>
  Effect.gen(function*() {
    const fibers = yield* FiberSet.make<never, E2>()
    for (const other of others) yield* FiberSet.run(fibers, other)
    // not a race: a race would interrupt the helpers before `main` has finished its work
    return yield* Effect.all([main, FiberSet.join(fibers)], { concurrency: "unbounded" })
  }).pipe(Effect.scoped, Effect.zipRight(Effect.never))
