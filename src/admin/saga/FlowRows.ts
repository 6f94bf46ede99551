import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import * as Postgres from "../../infra/postgres/Postgres.js"

/** Rows since the statistics of the database began. Rows of rolled-back transactions count too; they are few. */
export interface Counters {
  /** Payments created. */
  readonly payments: number
  /** Payments settled: nothing else changes a payment. */
  readonly settled: number
  /** Events written. */
  readonly events: number
}

/** Reads the statistics of the tables: the same cost for tables of any size. Fails with `DatabaseUnavailable`. */
export const make = Effect.map(SqlClient.SqlClient, (sql) =>
  sql<Counters>`
    SELECT pg_stat_get_tuples_inserted('payment'::regclass)::float8 AS payments,
           pg_stat_get_tuples_updated('payment'::regclass)::float8 AS settled,
           pg_stat_get_tuples_inserted('event'::regclass)::float8 AS events
  `.pipe(Postgres.run("2 seconds"), Effect.withTracerEnabled(false), Effect.map(([row]) => row!)))
