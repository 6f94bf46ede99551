import { SqlClient } from "@effect/sql"
import { Effect, Option } from "effect"
import * as Migrations from "../infra/postgres/Migrations.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresPooler from "../infra/postgres/PostgresPooler.js"
import type { Rights } from "../infra/postgres/PostgresRights.js"
import * as PostgresRights from "../infra/postgres/PostgresRights.js"
import * as PostgresSequence from "../infra/postgres/PostgresSequence.js"
import * as PostgresSession from "../infra/postgres/PostgresSession.js"
import { Sequences } from "../payments/Sequences.js"
import type { Fault, Result } from "./Finding.js"
import { at, when } from "./Finding.js"

const { judge, notChecked } = at("postgresql")

const limit = "5 seconds"

/** Oldest version that knows every function of our statements: `gen_random_uuid` and `pg_current_xact_id` came with it. */
const oldestVersion = 130_000

interface Server {
  readonly version: string
  readonly number: number
  readonly standby: boolean
  readonly readonly: boolean
  readonly fsync: string
  readonly full_page_writes: string
  readonly synchronous_commit: string
  readonly autovacuum: string
  readonly without_autovacuum: string | null
}

const readServer = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql<Server>`
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int AS number,
           pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS readonly,
           current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit, current_setting('autovacuum') AS autovacuum,
           (SELECT string_agg(relname, ', ') FROM pg_class
            WHERE oid IN (to_regclass('payment'), to_regclass('event')) AND 'autovacuum_enabled=false' = ANY(reloptions)
           ) AS without_autovacuum
  `.pipe(Postgres.run(limit), Effect.map(([row]) => row!)))

const ofServer = (server: Server): ReadonlyArray<Result> => [
  judge(
    "postgresql.version",
    `the server is PostgreSQL ${server.version}`,
    when(server.number < oldestVersion, "statements of the service fail", "use PostgreSQL 13 or newer")
  ),
  judge(
    "postgresql.writable",
    server.standby ? "the server is a standby" : `transaction_read_only is ${server.readonly ? "on" : "off"}`,
    when(
      server.readonly,
      "no record, call or event changes anything: the service is not ready",
      server.standby
        ? "point DATABASE_URL to the primary, or name all hosts in it"
        : "find out why default_transaction_read_only is on (a full disk?), and turn it off"
    )
  ),
  judge(
    "postgresql.durability",
    `fsync is ${server.fsync}, full_page_writes ${server.full_page_writes}, synchronous_commit ${server.synchronous_commit}`,
    when(
      server.fsync === "off" || server.full_page_writes === "off" || server.synchronous_commit === "off",
      "a power failure loses acknowledged payments, or damages the tables",
      "turn them on (synchronous_commit: in the options of DATABASE_URL)"
    )
  ),
  judge(
    "postgresql.autovacuum",
    `autovacuum is ${server.autovacuum}` +
      (server.without_autovacuum === null ? "" : `, and off for ${server.without_autovacuum}`),
    when(
      server.autovacuum !== "on" || server.without_autovacuum !== null,
      "each event leaves two dead rows: tables and indexes grow without end, and claims get slow",
      "turn autovacuum on (ALTER TABLE … RESET (autovacuum_enabled))"
    )
  )
]

/** The settings on which results rest, and that `options` of the URL may override (`PostgresSession`). */
const readSession = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const names = Object.keys(PostgresSession.settings)
  const rows = yield* sql<{ readonly name: string; readonly value: string | null }>`
    SELECT name, current_setting(name, true) AS value FROM unnest(${names}::text[]) AS t (name)
  `.pipe(Postgres.run(limit))
  return new Map(rows.map(({ name, value }) => [name, value]))
})

const ofSession = (values: ReadonlyMap<string, string | null>): Result => {
  const others = Object.entries(PostgresSession.settings).flatMap(([name, ours]) => {
    const value = values.get(name) ?? null
    return value === null || value === ours || isSameTime(value, ours) ? [] : [`${name} is ${value}, not ${ours}`]
  })
  const shown = ["default_transaction_isolation", "TimeZone", "DateStyle"].map((name) => `${name} ${values.get(name)}`)
  return judge(
    "postgresql.session",
    others.length === 0 ? `sessions have ${shown.join(", ")}` : `DATABASE_URL overrides settings: ${others.join("; ")}`,
    when(
      others.length > 0,
      "statements may fail, be slow, or read times and rows in another way than the service expects",
      "remove these settings from the options of DATABASE_URL"
    )
  )
}

/** `5s` and `5000ms` would differ as texts; only the zero of a time-out matters here. */
const isSameTime = (value: string, ours: string) => ours === "0" && /^0(ms|s|min)?$/.test(value)

interface Index {
  readonly table: string
  readonly name: string
  readonly valid: boolean
  readonly unique: boolean
  readonly columns: string
}

const readIndexes = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.all([
    sql<Index>`
      SELECT table_class.relname AS "table", index_class.relname AS name, indisvalid AS valid,
             indisunique AND indpred IS NULL AS "unique",
             coalesce((SELECT string_agg(attname, ',' ORDER BY place)
                       FROM unnest(indkey::int2[]) WITH ORDINALITY AS key (number, place)
                       JOIN pg_attribute ON attrelid = indrelid AND attnum = number), '') AS columns
      FROM pg_index
      JOIN pg_class AS table_class ON table_class.oid = indrelid
      JOIN pg_class AS index_class ON index_class.oid = indexrelid
      WHERE indrelid IN (to_regclass('payment'), to_regclass('event'))
    `.pipe(Postgres.run(limit)),
    sql<{ readonly shards: number }>`SELECT count(*)::int AS shards FROM outbox_shard`.pipe(Postgres.run(limit))
  ]))

const ofIndexes = (indexes: ReadonlyArray<Index>, shards: number): ReadonlyArray<Result> => {
  const wanted: ReadonlyArray<readonly [what: string, isIt: (index: Index) => boolean, statement: string]> = [
    ...(["payment.order_id", "payment.inventory_key", "payment.id", "event.id"] as const).map((key) => {
      const [table, column] = key.split(".") as [string, string]
      return [
        `unique index on ${table} (${column})`,
        (index: Index) => index.table === table && index.unique && index.columns === column,
        `CREATE UNIQUE INDEX CONCURRENTLY ON ${table} (${column})`
      ] as const
    }),
    [
      "index event_waiting",
      ({ name }) => name === "event_waiting",
      "CREATE INDEX CONCURRENTLY event_waiting ON event (id) WHERE status = 'WAIT'"
    ],
    [
      "index event_undone_of_order",
      ({ name }) => name === "event_undone_of_order",
      "CREATE INDEX CONCURRENTLY event_undone_of_order ON event (order_id, id) WHERE status <> 'DONE'"
    ],
    [
      `index event_waiting_of_${shards}_shards`,
      ({ name }) => name === `event_waiting_of_${shards}_shards`,
      `CREATE INDEX CONCURRENTLY event_waiting_of_${shards}_shards ON event ((hashint8(order_id) & ${
        shards - 1
      }), id) ` +
      "WHERE status = 'WAIT'"
    ]
  ]
  const missing = wanted.filter(([, isIt]) => !indexes.some((index) => index.valid && isIt(index)))
  const invalid = indexes.filter(({ valid }) => !valid).map(({ name }) => name)
  return [judge(
    "postgresql.indexes",
    missing.length === 0 && invalid.length === 0
      ? `all ${wanted.length} indexes are there and valid`
      : [
        ...(missing.length === 0 ? [] : [`no valid ${missing.map(([what]) => what).join(", no valid ")}`]),
        ...(invalid.length === 0 ? [] : [`invalid: ${invalid.join(", ")}`])
      ].join("; "),
    when(
      missing.length > 0,
      missing.some(([what]) => what.startsWith("unique"))
        ? "without a unique index an order may get two payments"
        : "each claim reads the whole table",
      missing.map(([, , statement]) => statement).join("; ")
    ) ?? when(
      invalid.length > 0,
      "each write pays for an index that no statement uses",
      invalid.map((name) => `REINDEX INDEX CONCURRENTLY ${name}`).join("; ")
    )
  )]
}

const ofSequences = Effect.map(
  Effect.flatMap(Sequences, ({ check }) => check),
  (sequences) =>
    sequences.map((sequence) => {
      const { name, next, table } = sequence
      const behind = PostgresSequence.behind(sequence)
      const hopeless = PostgresSequence.hopeless(sequence)
      return judge(
        "postgresql.sequences",
        `the next id of table ${table} is ${next} (${name}): ${behind} ids behind its rows, ${
          PostgresSequence.left(sequence)
        } left`,
        hopeless !== undefined
          ? { consequence: `new rows of table ${table} are refused: nothing more is accepted`, remedy: hopeless }
          : when(
            behind > 0n,
            "new rows collide with existing ones, until a process of the service sets the sequence forward",
            `start a process of the service, or run ${PostgresSequence.statement(sequence)}`
          )
      )
    })
)

/** A refusal of the database as a finding, in its words; other failures stay. */
const refusal =
  (check: string, right: string, fault: Fault) => <R>(probe: Effect.Effect<unknown, Postgres.DatabaseUnavailable, R>) =>
    probe.pipe(
      Effect.as([judge(check, right, undefined)]),
      Effect.catchIf(({ refused }) => refused, ({ message }) => Effect.succeed([judge(check, message, fault)]))
    )

/** Checks of the server and of the session that need no table: cheap. */
export const checkServer = Effect.gen(function*() {
  return [...ofServer(yield* readServer), ofSession(yield* readSession)]
})

export interface TablesAsked {
  readonly migrations: Migrations.MigrationOptions
  readonly rights: Rights
  /** The role that needs these rights. Default: the role of `DATABASE_URL`. */
  readonly role?: string | undefined
}

/** Results of a check, also when the role may not read what it needs: then it is not checked. */
export const orNotChecked =
  (check: string) => <R>(look: Effect.Effect<ReadonlyArray<Result>, Postgres.DatabaseUnavailable, R>) =>
    Effect.catchIf(look, ({ refused }) => refused, ({ message }) => Effect.succeed([notChecked(check, message)]))

/** Results of checks of tables, also when another transaction has locked a table: the server itself has answered. */
export const orNotAnswered =
  (check: string) => <R>(look: Effect.Effect<ReadonlyArray<Result>, Postgres.DatabaseUnavailable, R>) =>
    Effect.catchAll(look, ({ message }) => Effect.succeed([notChecked(check, message)]))

const ofMigrations = (migrations: Migrations.MigrationOptions) =>
  Effect.map(Migrations.pending(migrations), (pending) => [judge(
    "postgresql.migrations",
    pending.length === 0 ? "all migrations are applied" : `pending: ${pending.map(([, name]) => name).join(", ")}`,
    when(
      pending.length > 0,
      "the service waits for them where MIGRATE_ON_START=false, and applies them at its start otherwise",
      "run payments migrate"
    )
  )])

/** Checks of the tables. Changes nothing. */
export const checkTables = Effect.fn("Database.checkTables")(function*({ migrations, rights, role }: TablesAsked) {
  const pooler = PostgresPooler.check.pipe(
    refusal("postgresql.pooler", "each connection has a session of its own", {
      consequence: "prepared statements and settings of sessions get lost: the process does not start",
      remedy: "use a pooler in session mode, or the address of the server"
    })
  )
  const rightsFound = PostgresRights.check(rights, role).pipe(
    refusal(
      "postgresql.rights",
      `${role === undefined ? "the role" : `role ${role}`} has the rights that the service needs`,
      {
        consequence: "the process does not start, or waits",
        remedy:
          "run sql/roles.sql or the GRANT as the owner of the tables, or set another role in DATABASE_URL; a role that only " +
          "reads checks another with --role"
      }
    )
  )
  const indexes = Effect.map(readIndexes, ([indexes, [shards]]) => ofIndexes(indexes, shards!.shards))
  const migrated = yield* orNotChecked("postgresql.migrations")(ofMigrations(migrations))
  const ofTables = migrated.some(({ state }) => state === "finding")
    ? ["rights", "indexes", "sequences"].map((check) =>
      notChecked(`postgresql.${check}`, "the database is not migrated")
    )
    : (yield* Effect.all([
      rightsFound,
      orNotChecked("postgresql.indexes")(indexes),
      orNotChecked("postgresql.sequences")(ofSequences)
    ])).flat()
  return [...yield* pooler, ...migrated, ...ofTables]
})

/** Partitions of a topic when payments were created last; none before the first relay has seen the topic. */
export const spreadOf = (topic: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql<{ readonly partitions: number }>`
      SELECT partitions FROM outbox_topic WHERE topic = ${topic} ORDER BY generation DESC LIMIT 1
    `.pipe(Postgres.run(limit), Effect.map(([row]) => Option.map(Option.fromNullable(row), (_) => _.partitions))))
