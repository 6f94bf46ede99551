import type { SqlClient, SqlError, Statement } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Exit, FiberId, Layer, Option, Redacted, Runtime, Schedule, Schema } from "effect"
import * as Pg from "pg"
import { isOutdated, PreparingClient } from "./PostgresPrepared.js"
import * as PostgresStatement from "./PostgresStatement.js"
import { retry } from "./Retry.js"

/** The database cannot answer now: it is away, too slow, or all connections are taken. Trying again later may work. */
export class DatabaseUnavailable extends Schema.TaggedError<DatabaseUnavailable>()("DatabaseUnavailable", {
  cause: Schema.Defect
}) {
  override get message() {
    const cause = this.cause instanceof Error ? this.cause : new Error(String(this.cause))
    // one that was refused at every address of a name says so by its code only
    return `the database is not available: ${cause.message || ("code" in cause ? cause.code : cause.name)}`
  }
}

export interface PostgresOptions {
  readonly url: Redacted.Redacted
  readonly maxConnections: number
  /** How long a statement may wait for a connection. Default: 2 seconds. */
  readonly connectTimeoutMillis?: number
}

/**
 * Every statement here finds its rows by an index, and in a queue the statistics are always old: a table that was empty
 * a moment ago makes a scan and a sort of everything look cheap (measured: 190 ms instead of 12 for a claim of 500 among
 * 100,000). Compiling such short statements costs more than running them, and so does planning them each time for their
 * values (measured: 515 µs instead of 253 for a settlement): a connection plans each once. So no statement may be right for
 * some values only: without them every array counts as one of ten, and every LIMIT as a tenth of what there is. A plan
 * is made anew after each VACUUM or ANALYZE of its tables, and where none comes with the connection, after a minute.
 */
const planner = "-c enable_seqscan=off -c enable_bitmapscan=off -c jit=off -c plan_cache_mode=force_generic_plan"

/** A connection that comes back with a statement still running is closed: the next user would queue behind it. */
const closeIfBusy = (_: unknown, client: Pg.PoolClient) => {
  const internals = client as unknown as { readonly _activeQuery: unknown; _queryable: boolean }
  if (internals._activeQuery != null) internals._queryable = false
}

const acquirePool = (options: PostgresOptions) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const pool = new Pg.Pool({
        connectionString: Redacted.value(options.url),
        Client: PreparingClient,
        max: options.maxConnections,
        connectionTimeoutMillis: options.connectTimeoutMillis ?? 2_000,
        application_name: "payments",
        options: planner,
        maxLifetimeSeconds: 60,
        keepAlive: true,
        keepAliveInitialDelayMillis: 5_000
      })
      // an idle connection that breaks is replaced at the next use; without a listener it would end the process
      return pool.on("error", () => {}).on("release", closeIfBusy)
    }),
    (pool) => Effect.promise(() => pool.end()).pipe(Effect.interruptible, Effect.timeoutOption("2 seconds"))
  )

/** A pool of connections, opened when first used: building the layer does not need the database. */
export const layer = (
  options: PostgresOptions
): Layer.Layer<SqlClient.SqlClient | PostgresStatement.PostgresPool> =>
  Layer.unwrapScoped(Effect.map(acquirePool(options), (pool) =>
    Layer.merge(
      Layer.succeed(PostgresStatement.PostgresPool, pool),
      PgClient.layerFromPool({ acquire: Effect.succeed(pool), transformJson: false }).pipe(Layer.orDie)
    )))

/** SQLSTATE of a failed statement, when the server gave one. */
export const sqlState = (error: SqlError.SqlError): Option.Option<string> => {
  const cause = error.cause
  return typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" &&
      /^[0-9A-Z]{5}$/.test(cause.code)
    ? Option.some(cause.code)
    : Option.none()
}

/** A unique key is there already. */
export const isTaken = (error: SqlError.SqlError) => Option.contains(sqlState(error), "23505")

/** serialization failure, deadlock, lock time-out, an outdated plan: the whole transaction may simply be run again */
const isPassing = (error: SqlError.SqlError) =>
  isOutdated(error.cause) ||
  Option.exists(sqlState(error), (state) => ["40001", "40P01", "55P03"].includes(state))

/** no answer at all, or the server says that it goes, or has no room: connection exception, shutdown, resources */
export const isAway = (error: SqlError.SqlError) =>
  Option.match(sqlState(error), { onNone: () => true, onSome: (state) => /^(08|53|57P)/.test(state) })

/** data exception, broken constraint, wrong statement: our bug, and no wait will mend it */
const isBug = (error: SqlError.SqlError) => Option.exists(sqlState(error), (state) => /^(22|23|42)/.test(state))

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
