import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import * as Postgres from "../../infra/postgres/Postgres.js"
import { Spreads } from "../Spreads.js"

/** Events that one look reads: more than all relays lease at the same time. */
const window = 10_000

/**
 * Returns a query: whether other relays have published events since the brokers are away for this one. While the brokers are away
 * for all relays, an event without an answer stays with the producer that may have sent it: another one would double it.
 */
export const goOn = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const run = yield* Postgres.runner("5 seconds")
  const { brokersAway } = yield* Spreads
  const beforeDue = sql`id < (
    SELECT id FROM event
    WHERE status = 'WAIT' AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
    ORDER BY id LIMIT 1
  )`
  /** The events that were published last lie before the first one that is due, and at the end of the table. */
  const publishedIn = (time: Duration.Duration) =>
    sql<{ readonly published: boolean }>`
      SELECT EXISTS (
        SELECT FROM (
          (SELECT status, done_at FROM event WHERE ${beforeDue} ORDER BY id DESC LIMIT ${window})
          UNION ALL
          (SELECT status, done_at FROM event ORDER BY id DESC LIMIT ${window})
        ) AS latest
        WHERE status = 'DONE' AND done_at > clock_timestamp() - make_interval(secs => ${Duration.toSeconds(time)})
      ) AS published
    `.pipe(
      run,
      Effect.map(([row]) => row!.published),
      Effect.catchTag("DatabaseUnavailable", (error) =>
        Effect.as(Effect.logDebug("cannot look for events of other relays", error), false)),
      Effect.withTracerEnabled(false)
    )
  return Effect.flatMap(
    brokersAway,
    (time) => Duration.equals(time, Duration.zero) ? Effect.succeed(false) : publishedIn(time)
  )
})
