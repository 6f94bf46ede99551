import type { Duration } from "effect"
import { Effect, Fiber, Option, Schedule } from "effect"
import type { Part } from "../infra/runtime/Health.js"

export interface WithdrawalOptions {
  /** Whether PostgreSQL takes no changes now. */
  readonly databaseIsAway: Effect.Effect<boolean>
  /** The group removes a member without a heartbeat for this time. */
  readonly sessionTimeout: Duration.Duration
  readonly part: Part
}

const lookEvery = Schedule.spaced("1 second")

/**
 * Runs a member of the consumer group, and ends it while PostgreSQL is away for longer than the session timeout. The others get its
 * partitions then, as they get those of a member that the brokers do not hear: an instance that is cut off from the database alone
 * would keep its orders from them. The member joins again when PostgreSQL is back.
 */
export const around = ({ databaseIsAway, part, sessionTimeout }: WithdrawalOptions) => {
  const database = (away: boolean) =>
    Effect.repeat(databaseIsAway, { schedule: lookEvery, until: (isAway) => isAway === away })
  const isAwayForLong = database(true).pipe(
    Effect.zipRight(Effect.timeoutOption(database(false), sessionTimeout)),
    Effect.repeat({ until: Option.isNone })
  )
  const why = "left the consumer group until PostgreSQL is back: other instances get the partitions"
  const untilBack = Effect.logInfo(why).pipe(
    Effect.zipRight(Effect.sync(() => part.postponed("partitions", { reason: "postgres", why }))),
    Effect.zipRight(database(false)),
    Effect.ensuring(Effect.sync(() => part.reached("partitions")))
  )

  return <E, R>(member: Effect.Effect<never, E, R>): Effect.Effect<never, E, R> =>
    // the scope waits for the member to leave, also at a stop: a race alone would not
    Effect.forkScoped(member).pipe(
      Effect.flatMap((running) => Effect.raceFirst(Fiber.join(running), isAwayForLong)),
      Effect.scoped,
      Effect.zipRight(untilBack),
      Effect.forever
    )
}
