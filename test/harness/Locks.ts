import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import { until } from "./Eventually.js"

/** Ends when this number of statements of the database waits for a lock. Returns when each began. */
export const waiting = (count: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    until(
      sql<{ readonly began: string }>`
        SELECT query_start::text AS began FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'
      `,
      (rows) => rows.length === count
    ))
