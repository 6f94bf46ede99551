import { SqlClient } from "@effect/sql"
import { Clock, Effect, Metric } from "effect"
import * as RecordTime from "../kafka/RecordTime.js"
import * as Postgres from "./Postgres.js"

const offset = Metric.gauge("payments_clock_offset_seconds", {
  description: "How far the clock of this host is ahead of the database's; negative when it is behind"
})

/** Milliseconds between the two clocks from which on an operator is told. */
const tolerance = 5_000

/** Milliseconds that an answer may take. A slower one says too little of the time. */
const slow = 2_000

/** Asks the database for its time, and writes records with it from then on. Answers how far ahead the host is, in milliseconds. */
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
 * Follows the database's clock, for ever: what its clock or ours does wrong lasts for ten seconds at most. Says once that
 * the clock of this host is wrong, and once that it is right again.
 */
export const serve = Effect.suspend(() => {
  let told = false
  const look = Effect.flatMap(measure, (ahead) => {
    const wrong = Math.abs(ahead) > tolerance
    if (wrong === told) return Effect.void
    told = wrong
    const seconds = Math.round(Math.abs(ahead) / 1_000)
    return wrong
      ? Effect.logWarning(
        `the clock of this host is ${seconds} s ${ahead > 0 ? "ahead of" : "behind"} the database's: records are ` +
          "written with the database's time; set the clock (NTP)"
      )
      : Effect.logInfo("the clock of this host agrees with the database's again")
  }).pipe(
    // the last measurement holds on: the monotonic clock carries it
    Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("the database's clock is not known now", error))
  )
  return Effect.forever(Effect.zipRight(look, Effect.sleep("10 seconds")))
})
