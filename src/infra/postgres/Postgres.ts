import type { SqlError, Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { PgClient } from "@effect/sql-pg"
import { Duration, Effect, Either, Exit, FiberId, Layer, Redacted, Runtime, Schedule, Schema } from "effect"
import { retry } from "../runtime/Retry.js"
import type { Secret } from "../runtime/Secret.js"
import * as PostgresFault from "./PostgresFault.js"
import { Pool } from "./PostgresPool.js"
import * as PostgresStatement from "./PostgresStatement.js"
import * as PostgresUrl from "./PostgresUrl.js"

/**
 * The database is unreachable, too slow, read-only, without a free connection, or refuses the service. A later attempt may
 * succeed; when `refused`, only after an operator has changed something.
 */
export class DatabaseUnavailable extends Schema.TaggedError<DatabaseUnavailable>()("DatabaseUnavailable", {
  cause: Schema.Defect
}) {
  readonly waitsFor = "postgres"

  /** True for a missing right, table or database, a wrong password or certificate, and an unusable pooler. */
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
  /** In the form of `PostgresUrl.parse`. */
  readonly url: Redacted.Redacted
  /** Password of each new connection, instead of the one in the URL. */
  readonly password?: Secret | undefined
  readonly maxConnections: number
  /** Longest wait of a statement for a connection. Default: `connect_timeout` of the URL, or 2 seconds. */
  readonly connectTimeoutMillis?: number
}

/** The password as a promise. It rejects with `SecretUnreadable` itself. */
const passwordNow = async (runtime: Runtime.Runtime<never>, { get }: Secret) => {
  const password = await Runtime.runPromise(runtime)(Effect.either(get))
  if (Either.isLeft(password)) throw password.left
  return Redacted.value(password.right)
}

const acquirePool = (options: PostgresOptions) =>
  Effect.gen(function*() {
    const runtime = yield* Effect.runtime<never>()
    const { password } = options
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
          password: password && (() => passwordNow(runtime, password)),
          max: options.maxConnections,
          onCrowded: (connections, refusal) =>
            Runtime.runFork(runtime)(Effect.logWarning(
              `the database gives this process ${connections} of ${options.maxConnections} connections; statements wait for a free one: ` +
                PostgresFault.explain(refusal)
            ))
        })
      ),
      (pool) => Effect.promise(() => pool.end()).pipe(Effect.interruptible, Effect.timeoutOption("2 seconds"))
    )
  }).pipe(Effect.orDie)

/** The services that `layer` provides. */
export type Database = SqlClient.SqlClient | PostgresStatement.PostgresPool

/** A pool of connections, opened at their first use: building the layer does not need the database. */
export const layer = (
  options: PostgresOptions
): Layer.Layer<Database> =>
  Layer.unwrapScoped(Effect.map(acquirePool(options), (pool) =>
    Layer.merge(
      Layer.succeed(PostgresStatement.PostgresPool, pool),
      PgClient.layerFromPool({ acquire: Effect.succeed(pool), transformJson: false }).pipe(Layer.orDie)
    )))

/** True for a violation of a unique key. */
export const isTaken = (error: SqlError.SqlError) => PostgresFault.stateOf(error.cause) === "23505"

const isPassing = (error: SqlError.SqlError) => PostgresFault.of(error.cause) === "passing"
const isBug = (error: SqlError.SqlError) => PostgresFault.of(error.cause) === "bug"

const passingRetry = Schedule.exponential("5 millis").pipe(Schedule.jittered, Schedule.intersect(Schedule.recurs(8)))

/**
 * Runs an effect in its own fiber with a time limit, also for callers that cannot be interrupted, such as HTTP handlers. The
 * limit is a timer, because `Effect.timeout` takes two more fibers a statement.
 */
const within = (limit: Duration.DurationInput) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.runtime<R>(), (runtime) =>
    Effect.async<A, E | SqlError.SqlError>((resume) => {
      // the exit is a value, because the runtime logs a failing fiber
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

/** Turns a final failure into `DatabaseUnavailable`, or into a defect when the statement can never succeed. */
const classified = <A, R>(effect: Effect.Effect<A, SqlError.SqlError, R>) =>
  Effect.catchAll(
    effect,
    (error) => isBug(error) ? Effect.die(error) : new DatabaseUnavailable({ cause: error.cause })
  )

/**
 * Runs a transaction with all its attempts within `limit`, and then cancels its statement in the background.
 *
 * Contention and outdated prepared statements are retried. Other failures are `DatabaseUnavailable`; a statement that can never
 * succeed is a defect.
 */
export const run = (limit: Duration.DurationInput) => <A, R>(transaction: Effect.Effect<A, SqlError.SqlError, R>) =>
  transaction.pipe(again, within(limit), classified)

/**
 * Like `run`, for statements of `PostgresStatement.executor`. `attempt` receives the deadline (`performance.now()`) of all
 * attempts.
 */
export const until =
  (limit: Duration.DurationInput) => <A, R>(attempt: (until: number) => Effect.Effect<A, SqlError.SqlError, R>) =>
    Effect.suspend(() => attempt(PostgresStatement.deadline(limit)).pipe(again, classified))

/** Like `run`, for one frequent statement that is its own transaction. */
export const runner = (limit: Duration.DurationInput) =>
  Effect.map(
    PostgresStatement.executor,
    (execute) => <A>(statement: Statement.Statement<A>) => until(limit)((moment) => execute(statement, moment))
  )

/** Succeeds when the database takes changes. When it is read-only, renews the connections and fails. */
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
