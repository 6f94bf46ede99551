import { SqlClient } from "@effect/sql"
import { Clock, Duration, Effect, Metric } from "effect"
import * as RecordTime from "../kafka/RecordTime.js"
import type { Part } from "../runtime/Health.js"
import { problemOf } from "../runtime/Problem.js"
import * as Postgres from "./Postgres.js"

const offset = Metric.gauge("payments_clock_offset_seconds", {
  description: "How far the clock of this host is ahead of the database's; negative when it is behind"
})

/** Difference of the two clocks, in milliseconds, above which the service warns. */
const tolerance = 5_000

/** Pauses between two measurements: after a success, and after a failure. */
const [lookEvery, again] = [Duration.seconds(10), Duration.seconds(1)]

/** Milliseconds that an answer may take: a slower one is too inexact. */
const slow = 2_000

/** Reads the database's time, which records carry from then on. Returns how far the host's clock is ahead, in milliseconds. */
export const measure = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const asked = performance.now()
  const [row] = yield* sql<{ readonly now: number }>`
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now
  `.pipe(Postgres.run(slow), Effect.withTracerEnabled(false))
  const answered = performance.now()
  const host = yield* Clock.currentTimeMillis
  RecordTime.follow(row!.now, (asked + answered) / 2)
  const ahead = host - (row!.now + (answered - asked) / 2)
  yield* Metric.set(offset, ahead / 1_000)
  return ahead
})

/**
 * Follows the database's clock for ever, every ten seconds, and every second while it cannot be read. Logs once when the clock of this host is wrong, and once when it
 * is right again. Reports to `part` whether it could read that clock.
 */
export const serve = (part: Part) =>
  Effect.suspend(() => {
    let warned = false
    const look = Effect.flatMap(measure, (ahead) => {
      part.working()
      const wrong = Math.abs(ahead) > tolerance
      if (wrong === warned) return Effect.succeed(lookEvery)
      warned = wrong
      const seconds = Math.round(Math.abs(ahead) / 1_000)
      return Effect.as(
        wrong
          ? Effect.logWarning(
            `the clock of this host is ${seconds} s ${ahead > 0 ? "ahead of" : "behind"} the database's: records are ` +
              "written with the database's time; set the clock (NTP)"
          )
          : Effect.logInfo("the clock of this host agrees with the database's again"),
        lookEvery
      )
    }).pipe(
      // the last measurement stays valid: the monotonic clock continues from it
      Effect.catchTag("DatabaseUnavailable", (error) =>
        Effect.sync(() => {
          part.failed(problemOf(error, "postgres"))
          return again
        }))
    )
    return Effect.forever(Effect.flatMap(look, Effect.sleep))
  })
