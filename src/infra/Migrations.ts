import { FileSystem } from "@effect/platform"
import { Migrator, SqlClient, SqlError } from "@effect/sql"
import { Array as Arr, Effect, Option, Order, Schema } from "effect"
import * as Postgres from "./Postgres.js"

/** A migration did not run. Nothing of it, nor of the others pending with it, is in the database. */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", {
  cause: Schema.Defect
}) {
  override get message() {
    const cause = this.cause instanceof Migrator.MigrationError ? this.cause.cause : this.cause
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause.message : String(cause)
    return `the migration of the database failed and was rolled back: ${reason}`
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

const steps = ({ afterEach = Effect.void, folder }: MigrationOptions) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const files = Arr.sort(yield* fs.readDirectory(folder), Order.string)
    return Arr.filterMap(files, (file) =>
      Option.map(Option.fromNullable(/^(\d+)_(.+)\.sql$/.exec(file)), ([, id, name]): Migrator.ResolvedMigration => [
        Number(id),
        name!,
        Effect.map(
          fs.readFileString(`${folder}/${file}`),
          (text) =>
            Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.zipRight(sql.unsafe(text), afterEach))
        )
      ]))
  }).pipe(
    Effect.mapError((cause) =>
      new Migrator.MigrationError({ cause, reason: "import-error", message: cause.message })
    )
  )

/** One process migrates at a time; the lock goes with the connection when the process dies. */
const locked = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const connection = yield* sql.reserve
    // first: the lock may be given just when the wait for it is interrupted, and would stay with the connection
    yield* Effect.addFinalizer(() => Effect.ignore(connection.executeRaw("SELECT pg_advisory_unlock($1)", [lockKey])))
    yield* connection.executeRaw("SELECT pg_advisory_lock($1)", [lockKey])
    return yield* effect
  }).pipe(Effect.scoped)

/** Applies what is pending, all of it in one transaction, and answers it. Fails when the database is away. */
export const migrate = Effect.fn("Migrations.migrate")(function*(options: MigrationOptions) {
  return yield* locked(Migrator.make({})({ loader: steps(options), table: options.table })).pipe(
    Effect.catchTags({
      MigrationError: (cause) => new MigrationFailed({ cause }),
      SqlError: (error) => new Postgres.DatabaseUnavailable({ cause: error.cause })
    }),
    // the migrator dies of a statement that fails, and of a connection that does
    Effect.catchAllDefect((cause) => {
      const error = cause instanceof Migrator.MigrationError ? cause.cause : cause
      const away = error instanceof SqlError.SqlError && Postgres.isAway(error)
      return Effect.fail(
        away ? new Postgres.DatabaseUnavailable({ cause: error.cause }) : new MigrationFailed({ cause })
      )
    })
  )
})

/** The migrations that have not run yet. */
export const pending = Effect.fn("Migrations.pending")(function*(options: MigrationOptions) {
  const sql = yield* SqlClient.SqlClient
  const all = yield* Effect.orDie(steps(options))
  const [{ exists }] = (yield* sql<{ readonly exists: boolean }>`
    SELECT to_regclass(${options.table}) IS NOT NULL AS exists
  `.pipe(Postgres.run("5 seconds"))) as [{ readonly exists: boolean }]
  const done = exists
    ? yield* sql<{ readonly migration_id: number }>`SELECT migration_id FROM ${sql(options.table)}`.pipe(
      Postgres.run("5 seconds")
    )
    : []
  return all.filter(([id]) => !done.some((_) => _.migration_id === id)).map(([id, name]): Step => [id, name])
})
