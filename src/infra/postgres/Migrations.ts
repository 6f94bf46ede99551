import { FileSystem } from "@effect/platform"
import type { Statement } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import { Array as Arr, Effect, Option, Order, Schema } from "effect"
import * as Postgres from "./Postgres.js"
import * as PostgresFault from "./PostgresFault.js"

/** A migration failed. Its transaction, with all migrations pending at the time, was rolled back. */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  cause: Schema.Defect
}) {
  override get message() {
    const { cause } = this
    const reason = PostgresFault.explain(cause instanceof SqlError.SqlError ? cause.cause : cause)
    const advice = PostgresFault.of(cause instanceof SqlError.SqlError ? cause.cause : cause) === "refused"
      ? "; let the role that owns the tables run payments migrate"
      : ""
    return `the migration of the database failed and was rolled back: ${reason}${advice}`
  }
}

/** Another transaction holds a table. The transaction of the migrations was rolled back; a later attempt may get the lock. */
export class TableLocked extends Schema.TaggedError<TableLocked>()("TableLocked", {
  cause: Schema.Defect
}) {
  readonly waitsFor = "migrations"

  override get message() {
    return `a migration does not get the lock of a table: ${
      PostgresFault.explain(this.cause)
    }; another transaction or a vacuum ` +
      "holds it (payments doctor names transactions)"
  }
}

export interface MigrationOptions {
  /** Folder of the files `0001_name.sql`, applied in the order of their numbers. */
  readonly folder: string
  /** Table of the applied migrations. */
  readonly table: string
  /** Runs after each migration, inside the transaction of all of them. */
  readonly afterEach?: Effect.Effect<void>
}

/** Key of the advisory lock of a migration: any number that no other program uses. */
const lockKey = 8_113_902

type Step = readonly [id: number, name: string]

/** Migration files in the order of their numbers. */
const steps = Effect.fnUntraced(function*({ folder }: MigrationOptions) {
  const fs = yield* FileSystem.FileSystem
  const files = Arr.sort(yield* fs.readDirectory(folder), Order.string)
  const found = Arr.filterMap(
    files,
    (file) =>
      Option.map(Option.fromNullable(/^(\d+)_(.+)\.sql$/.exec(file)), ([, id, name]) => ({
        id: Number(id),
        name: name!,
        text: fs.readFileString(`${folder}/${file}`)
      }))
  )
  const twice = found.find(({ id }, i) => found.findIndex((other) => other.id === id) !== i)
  return twice === undefined ? found : yield* Effect.dieMessage(`two migrations have the number ${twice.id}`)
}, Effect.orDie)

/** Migrations that have not run. `run` executes a statement: on its own, or inside the current transaction. */
const unapplied = Effect.fnUntraced(function*<E>(
  options: MigrationOptions,
  run: <A>(statement: Statement.Statement<A>) => Effect.Effect<ReadonlyArray<A>, E>
) {
  const sql = yield* SqlClient.SqlClient
  const all = yield* steps(options)
  // reads pg_class: to_regclass alone would not see a commit of another process during this transaction
  const [table] = yield* run(
    sql<{ readonly exists: boolean }>`
      SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(${options.table})) AS exists
    `
  )
  if (!table!.exists) return { exists: false, steps: all }
  const done = yield* run(sql<{ readonly migration_id: number }>`SELECT migration_id FROM ${sql(options.table)}`)
  const ids = new Set(done.map((_) => _.migration_id))
  return { exists: true, steps: all.filter(({ id }) => !ids.has(id)) }
})

const refuse = (reason: string) =>
  new Postgres.DatabaseUnavailable({ cause: new PostgresFault.PostgresRefusal(reason) })

/**
 * Refuses a first migration that cannot create the tables, because the role lacks the right, or that would create a second
 * set beside existing tables outside of `search_path`. A `search_path` in the connection URL asks for a second set.
 */
const checkSchema = Effect.fnUntraced(function*(table: string) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{
    readonly role: string
    readonly path: string
    readonly schema: string | null
    readonly may: boolean | null
    readonly elsewhere: string | null
  }>`
    SELECT current_user AS role, current_setting('search_path') AS path, current_schema() AS schema,
           has_schema_privilege(current_schema(), 'CREATE') AS may, (
             SELECT min(quote_ident(nspname)) FROM pg_class JOIN pg_namespace AS schema ON schema.oid = relnamespace
             WHERE relname = ${table} AND nspname IS DISTINCT FROM current_schema()
               AND has_schema_privilege(schema.oid, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT')
               AND (SELECT source FROM pg_settings WHERE name = 'search_path') <> 'client'
           ) AS elsewhere
  `.pipe(Postgres.run("5 seconds"))
  const { elsewhere, may, path, role, schema } = found!
  if (schema === null) {
    return yield* refuse(`search_path (${path}) of role ${role} names no existing schema that the role may use`)
  }
  if (elsewhere !== null) {
    return yield* refuse(
      `search_path (${path}) of role ${role} leads to schema ${schema}, and the tables are in schema ${elsewhere}: ` +
        `ALTER ROLE ${role} SET search_path = ${elsewhere}, or name the schema in the URL (options=-c search_path=${schema})`
    )
  }
  if (may === false) {
    return yield* refuse(
      `role ${role} lacks CREATE on schema ${schema}, where tables are missing: GRANT CREATE ON SCHEMA ${schema} TO ${role}, ` +
        "or let another role run payments migrate"
    )
  }
})

/**
 * One process migrates at a time. The end of the transaction releases the lock, also when the process dies.
 *
 * Statements of the services queue behind a migration that waits for the lock of a table. A long transaction, or a vacuum to
 * prevent wraparound, may hold such a lock for hours: so a migration gives up soon, and its caller tries again.
 */
const apply = Effect.fnUntraced(function*(options: MigrationOptions) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`SELECT pg_advisory_xact_lock(${lockKey})`
  yield* sql`SET LOCAL lock_timeout = '1s'`
  const { exists, steps } = yield* unapplied(options, (statement) => statement)
  if (!exists) {
    yield* sql`
      CREATE TABLE ${sql(options.table)} (
        migration_id integer PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), name text NOT NULL
      )
    `
  }
  for (const { id, name, text } of steps) {
    yield* sql.unsafe(yield* Effect.orDie(text))
    yield* sql`INSERT INTO ${sql(options.table)} (migration_id, name) VALUES (${id}, ${name})`
    yield* options.afterEach ?? Effect.void
  }
  return steps.map(({ id, name }): Step => [id, name])
})

/** True when a later attempt may succeed without a change: no answer, read-only, contention, resources, operator. */
const isTemporary = ({ cause }: SqlError.SqlError) =>
  /^(08|25|40|53|55|57|58)/.test(PostgresFault.stateOf(cause) ?? "08")

const classify = (error: SqlError.SqlError) =>
  PostgresFault.stateOf(error.cause) === "55P03"
    ? new TableLocked({ cause: error.cause })
    : isTemporary(error)
    ? new Postgres.DatabaseUnavailable({ cause: error.cause })
    : new MigrationFailed({ cause: error })

/**
 * Applies all pending migrations in one transaction and returns them. Only reads when none is pending.
 *
 * Fails with `MigrationFailed`, with `TableLocked`, or with `DatabaseUnavailable`, which is `refused` when a right is missing.
 */
export const migrate = Effect.fn("Migrations.migrate")(function*(options: MigrationOptions) {
  const sql = yield* SqlClient.SqlClient
  const before = yield* unapplied(options, Postgres.run("5 seconds"))
  if (before.steps.length === 0) return []
  if (!before.exists) {
    yield* Effect.catchAll(checkSchema(options.table), (refusal) =>
      // another process may have created the tables meanwhile
      Effect.flatMap(unapplied(options, Postgres.run("5 seconds")), ({ exists }) => exists ? Effect.void : refusal))
  }
  return yield* sql.withTransaction(apply(options)).pipe(
    Effect.mapError(classify),
    // `withTransaction` turns failures of COMMIT and ROLLBACK into defects
    Effect.catchSomeDefect((defect) =>
      defect instanceof SqlError.SqlError ? Option.some(Effect.fail(classify(defect))) : Option.none()
    )
  )
})

/** Number and name of the migrations that have not run. */
export const pending = Effect.fn("Migrations.pending")(function*(options: MigrationOptions) {
  const { steps } = yield* unapplied(options, Postgres.run("5 seconds"))
  return steps.map(({ id, name }): Step => [id, name])
})
