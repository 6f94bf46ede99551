import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Result } from "./Finding.js"
import { at, when } from "./Finding.js"

const { judge, notChecked } = at("postgresql")

const limit = "5 seconds"

/** Connections of a relay beside its pool: one that listens for events. */
const beside = 1

/** The longest transaction of the service takes 30 s. */
const tooOld = Duration.minutes(5)
/** A transaction of this age that holds up others makes calls slow. The service's own end sooner. */
const slow = Duration.seconds(1)

interface Connections {
  readonly max: number
  readonly reserved: number
  readonly of_role: number
  readonly of_database: number
  readonly ours: number
  readonly others: number
}

/** Checks that the server grants a process of the service its pool, beside the connections of others. */
export const checkConnections = Effect.fn("Sessions.checkConnections")(function*(poolSize: number) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<Connections>`
    SELECT current_setting('max_connections')::int AS max,
           current_setting('superuser_reserved_connections')::int
             + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
           (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS of_role,
           (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS of_database,
           count(*) FILTER (WHERE application_name = 'payments')::int AS ours,
           count(*) FILTER (WHERE application_name <> 'payments')::int AS others
    FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()
  `.pipe(Postgres.run(limit))
  const { max, of_database, of_role, others, ours, reserved } = row!
  const limits = [
    [max - reserved, `max_connections ${max} less ${reserved} reserved`],
    ...(of_role < 0 ? [] : [[of_role, `CONNECTION LIMIT ${of_role} of the role`] as const]),
    ...(of_database < 0 ? [] : [[of_database, `CONNECTION LIMIT ${of_database} of the database`] as const])
  ] as const
  const [least, name] = limits.reduce((a, b) => b[0] < a[0] ? b : a)
  const wanted = poolSize + beside
  // the limit of a role or a database counts no connections of others
  const free = least === max - reserved ? least - others : least
  return [judge(
    "postgresql.connections",
    `a process takes up to ${wanted} connections (DATABASE_POOL_SIZE ${poolSize}); ${name}; in use: ${ours} of the service, ` +
      `${others} of others`,
    when(
      wanted > free,
      `${free} connections are left for the service: its statements wait for each other, and some may fail`,
      `set DATABASE_POOL_SIZE to ${Math.max(2, free - beside)} or less, or raise the limit`
    )
  )]
})

interface Open {
  readonly pid: number
  readonly role: string
  readonly state: string
  readonly seconds: number
  /** Sessions that wait for its locks now. */
  readonly waiting: number
}

const about = ({ pid, role, seconds, state, waiting }: Open) =>
  `pid ${pid} of ${role} (${state}) for ${seconds} s${waiting === 0 ? "" : `, ${waiting} sessions wait for its locks`}`

/** Checks for transactions of this age, for those whose locks hold up other sessions now, and for slots that hold back vacuum. */
export const checkTransactions = Effect.fn("Sessions.checkTransactions")(
  function*(age: Duration.DurationInput = tooOld) {
    const sql = yield* SqlClient.SqlClient
    const seconds = Duration.toSeconds(age)
    const open = yield* sql<Open>`
    WITH blocking AS MATERIALIZED (
      SELECT blocker, count(*)::int AS waiting
      FROM pg_stat_activity AS waiter, unnest(pg_blocking_pids(waiter.pid)) AS blocker
      WHERE waiter.datname = current_database() AND waiter.wait_event_type = 'Lock' GROUP BY blocker
    )
    SELECT pid, usename AS role, state, extract(epoch FROM clock_timestamp() - xact_start)::int AS seconds,
           coalesce(waiting, 0) AS waiting
    FROM pg_stat_activity LEFT JOIN blocking ON blocker = pid
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND xact_start < clock_timestamp() - make_interval(secs =>
        CASE WHEN waiting > 0 THEN ${Duration.toSeconds(slow)}::float8 ELSE ${seconds}::float8 END)
    ORDER BY xact_start LIMIT 10
  `.pipe(Postgres.run(limit))
    const prepared = yield* sql<{ readonly gid: string; readonly seconds: number }>`
    SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::int AS seconds FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => ${seconds})
    ORDER BY prepared LIMIT 10
  `.pipe(Postgres.run(limit))
    const slots = yield* sql<{ readonly name: string; readonly transactions: number }>`
    SELECT slot_name AS name, age(xmin) AS transactions FROM pg_replication_slots
    WHERE NOT active AND xmin IS NOT NULL ORDER BY age(xmin) DESC LIMIT 10
  `.pipe(Postgres.run(limit))
    const [hidden] = yield* sql<{ readonly role: string; readonly sessions: number }>`
    SELECT current_user AS role, count(*)::int AS sessions FROM pg_stat_activity
    WHERE datname = current_database() AND usename <> current_user AND NOT pg_has_role('pg_read_all_stats', 'USAGE')
      AND NOT pg_has_role(usesysid, 'USAGE')
  `.pipe(Postgres.run(limit))
    const long = [
      ...open.map(about),
      ...prepared.map(({ gid, seconds }) => `prepared transaction ${JSON.stringify(gid)} for ${seconds} s`),
      ...slots.map(({ name, transactions }) =>
        `replication slot ${name}, which no standby reads, for ${transactions} transactions`
      )
    ]
    const results: ReadonlyArray<Result> = [
      judge(
        "postgresql.transactions",
        long.length === 0
          ? `no transaction is open for longer than ${
            Duration.format(Duration.decode(age))
          }, or holds up others for longer ` +
            `than ${Duration.format(slow)}`
          : `open: ${long.join("; ")}`,
        when(
          long.length > 0,
          "statements wait for its locks, and orders with them; VACUUM removes no row that was deleted since: claims get slower",
          [
            ...open.map(({ pid }) => `SELECT pg_terminate_backend(${pid})`),
            ...prepared.map(({ gid }) => `ROLLBACK PREPARED '${gid.replaceAll("'", "''")}'`),
            ...slots.map(({ name }) => `start its standby, or SELECT pg_drop_replication_slot('${name}')`)
          ].join("; ")
        )
      ),
      ...(hidden!.sessions === 0 ? [] : [notChecked(
        "postgresql.transactions",
        `transactions in ${hidden!.sessions} sessions of other roles (GRANT pg_read_all_stats TO ${hidden!.role})`
      )])
    ]
    return results
  }
)
