import type { Duration } from "effect"
import { Effect, Fiber, Option, Schedule } from "effect"
import type { Part } from "./Health.js"
import type { Problem } from "./Problem.js"

export interface WithdrawalOptions {
  /** Whether this instance keeps its work from others now, because a server is away for it. */
  readonly isCutOff: Effect.Effect<boolean>
  /** How long it is cut off without a pause before the work ends. */
  readonly after: Duration.DurationInput
  /** Whether the server has come back: the work starts again. */
  readonly isBack: Effect.Effect<boolean>
  readonly part: Part
  /** What the part shows until the server is back. */
  readonly problem: Problem
}

const lookEvery = Schedule.spaced("1 second")

/**
 * Runs the work of an instance, and ends it while a server that it needs is away for long: an instance that is cut off from that
 * server alone would keep from the others what it holds. The work starts again when the server is back.
 */
export const around = ({ after, isBack, isCutOff, part, problem }: WithdrawalOptions) => {
  const until = (state: Effect.Effect<boolean>) => Effect.repeat(state, { schedule: lookEvery, until: (is) => is })
  const isCutOffForLong = until(isCutOff).pipe(
    Effect.zipRight(Effect.timeoutOption(until(Effect.map(isCutOff, (is) => !is)), after)),
    Effect.repeat({ until: Option.isNone })
  )
  const untilBack = Effect.logInfo(problem.why).pipe(
    Effect.zipRight(Effect.sync(() => part.postponed("withdrawn", problem))),
    Effect.zipRight(until(isBack)),
    Effect.ensuring(Effect.sync(() => part.reached("withdrawn")))
  )

  return <E, R>(work: Effect.Effect<never, E, R>): Effect.Effect<never, E, R> =>
    // the scope waits for the end of the work, also at a stop: a race alone would not
    Effect.forkScoped(work).pipe(
      Effect.flatMap((running) => Effect.raceFirst(Fiber.join(running), isCutOffForLong)),
      Effect.scoped,
      Effect.zipRight(untilBack),
      Effect.forever
    )
}
