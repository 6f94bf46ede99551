import type { SqlError, Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Exit, FiberId, Layer, Redacted, Runtime, Schedule, Schema } from "effect"
import { retry } from "../runtime/Retry.js"
import * as PostgresFault from "./PostgresFault.js"
import { Pool } from "./PostgresPool.js"
import * as PostgresStatement from "./PostgresStatement.js"
import * as PostgresUrl from "./PostgresUrl.js"

/**
 * The database does not do what it is asked: it is away, too slow, read-only, all connections are taken, or it refuses us.
 * Trying again later may work; where `refused`, not before somebody has changed something.
 */
export class DatabaseUnavailable extends Schema.TaggedError<DatabaseUnavailable>()("DatabaseUnavailable", {
  cause: Schema.Defect
}) {
  /** A right, a password, a certificate, a table or a database that is not there, or a pooler that does not do. */
  get refused() {
    return PostgresFault.of(this.cause) === "refused"
  }

  override get message() {
    const words = PostgresFault.explain(this.cause)
    switch (PostgresFault.of(this.cause)) {
      case "refused":
        return `the database refuses: ${words}`
      case "read-only":
        return `the database is read-only: ${words}`
      default:
        return `the database is not available: ${words}`
    }
  }
}

export interface PostgresOptions {
  /** As `PostgresUrl.parse` reads it. */
  readonly url: Redacted.Redacted
  readonly maxConnections: number
  /** How long a statement may wait for a connection. Default: that of the URL, or 2 seconds. */
  readonly connectTimeoutMillis?: number
}

const acquirePool = (options: PostgresOptions) =>
  Effect.gen(function*() {
    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    const target = yield* Effect.catchAll(
      PostgresUrl.parse(Redacted.value(options.url)),
      (problem) => Effect.dieMessage(`the URL of the database ${problem}`)
    )
    return yield* Effect.acquireRelease(
      Effect.sync(() =>
        new Pool({
          target,
          applicationName: "payments",
          connectTimeoutMillis: options.connectTimeoutMillis ?? 2_000,
          max: options.maxConnections,
          onCrowded: (connections, refusal) =>
            fork(Effect.logWarning(
              `the database gives this process ${connections} of ${options.maxConnections} connections, who finds none free waits: ` +
                PostgresFault.explain(refusal)
            ))
        })
      ),
      (pool) => Effect.promise(() => pool.end()).pipe(Effect.interruptible, Effect.timeoutOption("2 seconds"))
    )
  }).pipe(Effect.orDie)

/** What `layer` provides. */
export type Database = SqlClient.SqlClient | PostgresStatement.PostgresPool

/** A pool of connections, opened when first used: building the layer does not need the database. */
export const layer = (
  options: PostgresOptions
): Layer.Layer<Database> =>
  Layer.unwrapScoped(Effect.map(acquirePool(options), (pool) =>
    Layer.merge(
      Layer.succeed(PostgresStatement.PostgresPool, pool),
      PgClient.layerFromPool({ acquire: Effect.succeed(pool), transformJson: false }).pipe(Layer.orDie)
    )))

/** A unique key is there already. */
export const isTaken = (error: SqlError.SqlError) => PostgresFault.stateOf(error.cause) === "23505"

const isPassing = (error: SqlError.SqlError) => PostgresFault.of(error.cause) === "passing"
const isBug = (error: SqlError.SqlError) => PostgresFault.of(error.cause) === "bug"

const passingRetry = Schedule.exponential("5 millis").pipe(Schedule.jittered, Schedule.intersect(Schedule.recurs(8)))

/**
 * Runs it in a fiber of its own, and waits no longer for that: by a timer and not by `Effect.timeout`, which takes more
 * fibers than a small statement is worth. Also where the caller cannot be interrupted, as in a handler of the HTTP
 * server, the limit holds.
 */
const within = (limit: Duration.DurationInput) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.runtime<R>(), (runtime) =>
    Effect.async<A, E | SqlError.SqlError>((resume) => {
      // its exit is a value: a fiber that fails is logged
      const fiber = Runtime.runFork(runtime, Effect.exit(Effect.interruptible(effect)))
      const giveUp = () => fiber.unsafeInterruptAsFork(FiberId.none)
      const timer = setTimeout(() => {
        resume(PostgresStatement.late)
        giveUp()
      }, Duration.toMillis(limit))
      fiber.addObserver((exit) => {
        clearTimeout(timer)
        resume(Exit.flatten(exit))
      })
      return Effect.sync(() => {
        clearTimeout(timer)
        giveUp()
      })
    }))

const again = retry(passingRetry, isPassing)

/** What is not tried again: what the database may recover from is `DatabaseUnavailable`, a statement that can never succeed a defect. */
const judged = <A, R>(effect: Effect.Effect<A, SqlError.SqlError, R>) =>
  Effect.catchAll(
    effect,
    (error) => isBug(error) ? Effect.die(error) : new DatabaseUnavailable({ cause: error.cause })
  )

/**
 * Runs a transaction, all attempts within `limit`; then its statement is cancelled, and nobody waits for the cancelling.
 *
 * Contention, and what a migration has outdated, is tried again here. What else the database may recover from is
 * `DatabaseUnavailable`; a statement that can never succeed is a defect.
 */
export const run = (limit: Duration.DurationInput) => <A, R>(transaction: Effect.Effect<A, SqlError.SqlError, R>) =>
  transaction.pipe(again, within(limit), judged)

/**
 * The same for statements of `PostgresStatement.executor`: `attempt` gives each the moment until which it may take. A pause
 * between attempts may end after it, and then none is made.
 */
export const until =
  (limit: Duration.DurationInput) => <A, R>(attempt: (until: number) => Effect.Effect<A, SqlError.SqlError, R>) =>
    Effect.suspend(() => attempt(PostgresStatement.deadline(limit)).pipe(again, judged))

/** The same for one statement that is a transaction of its own: for all that is done often. */
export const runner = (limit: Duration.DurationInput) =>
  Effect.map(
    PostgresStatement.executor,
    (execute) => <A>(statement: Statement.Statement<A>) => until(limit)((moment) => execute(statement, moment))
  )

/** Ends when the database takes changes. Where it is read-only, its connections are renewed. */
export const writable: Effect.Effect<void, DatabaseUnavailable, Database> = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const pool = yield* PostgresStatement.PostgresPool
  const [session] = yield* sql<{ readonly readonly: boolean; readonly standby: boolean }>`
    SELECT current_setting('transaction_read_only') = 'on' AS readonly, pg_is_in_recovery() AS standby
  `.pipe(run("2 seconds"))
  if (!session!.readonly) return
  pool.renew()
  const why = session!.standby ? "the server is a standby" : "default_transaction_read_only is on"
  return yield* new DatabaseUnavailable({ cause: new PostgresFault.PostgresReadOnly(why) })
})
