import { FileSystem } from "@effect/platform"
import type { Statement } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import { Array as Arr, Effect, Option, Order, Schema } from "effect"
import * as Postgres from "./Postgres.js"
import * as PostgresFault from "./PostgresFault.js"

/** A migration did not run. Nothing of it, nor of the others pending with it, is in the database. */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  cause: Schema.Defect
}) {
  override get message() {
    const { cause } = this
    const reason = PostgresFault.explain(cause instanceof SqlError.SqlError ? cause.cause : cause)
    const way = PostgresFault.of(cause instanceof SqlError.SqlError ? cause.cause : cause) === "refused"
      ? "; let the role that owns the tables run payments migrate"
      : ""
    return `the migration of the database failed and was rolled back: ${reason}${way}`
  }
}

export interface MigrationOptions {
  /** Folder of the files `0001_name.sql`, which run in the order of their numbers. */
  readonly folder: string
  /** Table that remembers what has run. */
  readonly table: string
  /** Runs after each migration, inside the transaction of them all. */
  readonly afterEach?: Effect.Effect<void>
}

/** Held while migrating; any number will do that nobody else uses. */
const lockKey = 8_113_902

type Step = readonly [id: number, name: string]

/** The files, in their order. */
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

/** Those that have not run yet, by a connection of its own or inside a transaction. */
const notDone = Effect.fnUntraced(function*<E>(
  options: MigrationOptions,
  run: <A>(statement: Statement.Statement<A>) => Effect.Effect<ReadonlyArray<A>, E>
) {
  const sql = yield* SqlClient.SqlClient
  const all = yield* steps(options)
  // by way of pg_class: to_regclass alone would not see what another process has committed during this transaction
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
 * Fails where a first migration would not make what is missing: without the right to, or when `search_path` leads away from
 * tables that are there. Where the connection URL sets `search_path`, a second set of tables is what is wanted.
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
    return yield* refuse(`search_path (${path}) of role ${role} names no schema that is there and that it may use`)
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

/** One process migrates at a time: the lock, and all that was done, go with the transaction when the process dies. */
const apply = Effect.fnUntraced(function*(options: MigrationOptions) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`SELECT pg_advisory_xact_lock(${lockKey})`
  const { exists, steps } = yield* notDone(options, (statement) => statement)
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

/** The database may do it later as it is: no answer, read-only, contention, resources, operator. */
const isForLater = ({ cause }: SqlError.SqlError) =>
  /^(08|25|40|53|55|57|58)/.test(PostgresFault.stateOf(cause) ?? "08")

const judge = (error: SqlError.SqlError) =>
  isForLater(error) ? new Postgres.DatabaseUnavailable({ cause: error.cause }) : new MigrationFailed({ cause: error })

/**
 * Applies what is pending, all of it in one transaction, and answers it. Where nothing is, it only reads.
 *
 * Fails with `DatabaseUnavailable`, which is `refused` where a right is missing, and with `MigrationFailed`.
 */
export const migrate = Effect.fn("Migrations.migrate")(function*(options: MigrationOptions) {
  const sql = yield* SqlClient.SqlClient
  const before = yield* notDone(options, Postgres.run("5 seconds"))
  if (before.steps.length === 0) return []
  if (!before.exists) {
    yield* Effect.catchAll(checkSchema(options.table), (refusal) =>
      // another process may have made the tables since
      Effect.flatMap(notDone(options, Postgres.run("5 seconds")), ({ exists }) => exists ? Effect.void : refusal))
  }
  return yield* sql.withTransaction(apply(options)).pipe(
    Effect.mapError(judge),
    // COMMIT and ROLLBACK that fail are defects
    Effect.catchSomeDefect((defect) =>
      defect instanceof SqlError.SqlError ? Option.some(Effect.fail(judge(defect))) : Option.none()
    )
  )
})

/** The migrations that have not run yet. */
export const pending = Effect.fn("Migrations.pending")(function*(options: MigrationOptions) {
  const { steps } = yield* notDone(options, Postgres.run("5 seconds"))
  return steps.map(({ id, name }): Step => [id, name])
})
