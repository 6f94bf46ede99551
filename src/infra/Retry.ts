import type { Predicate, Schedule } from "effect"
import { Effect } from "effect"

/**
 * `Effect.retry` for what hardly ever fails: the schedule is made after the first failure, and not for each run, where
 * it costs as much as a small statement does otherwise (25 of 110 steps).
 */
export const retry =
  <E>(schedule: Schedule.Schedule<unknown, E>, passing: Predicate.Predicate<E> = () => true) =>
  <A, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.catchAll(effect, (error) => {
      let next: Effect.Effect<A, E, R> = Effect.fail(error)
      const attempt = Effect.suspend(() => {
        const now = next
        next = effect
        return now
      })
      return Effect.retry(attempt, { while: passing, schedule })
    })
