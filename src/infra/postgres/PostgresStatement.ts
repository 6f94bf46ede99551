import type { Statement } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import { Cause, Context, Duration, Effect } from "effect"
import type * as Pg from "pg"
import * as Trace from "../runtime/Trace.js"
import type { Pool } from "./PostgresPool.js"

/** The connections below the `SqlClient`. */
export class PostgresPool extends Context.Tag("payments/PostgresPool")<PostgresPool, Pool>() {}

/** How long a connection is kept for a statement that shall be cancelled. */
const cancelMillis = 1_000

const failed = (message: string, cause: unknown) => Effect.fail(new SqlError.SqlError({ message, cause }))

/** Fails as what has used up its limit. */
export const late = Effect.suspend(() =>
  failed("No answer in time", new Cause.TimeoutException("statement took too long"))
)

/** Nobody waits for the statement any more. What still runs when its connection comes back is closed with it. */
const cancel = (pool: Pg.Pool, client: Pg.PoolClient, then: () => void) => {
  let held = true
  const end = () => {
    clearTimeout(timer)
    if (held) then()
    held = false
  }
  const timer = setTimeout(end, cancelMillis)
  const { processID } = client as unknown as { readonly processID: number }
  if (pool.ending) end()
  else pool.query(`SELECT pg_cancel_backend(${processID})`, end)
}

const onPool = (pool: Pg.Pool, text: string, values: ReadonlyArray<unknown>, limitMillis: number) =>
  Effect.async<ReadonlyArray<any>, SqlError.SqlError>((resume) => {
    let client: Pg.PoolClient | undefined
    let ended = false
    /** Whether this is the end; there is one. */
    const end = () => {
      clearTimeout(timer)
      return ended ? false : ended = true
    }
    // listened to until it is given back: an error that nobody hears ends the process
    const giveBack = (broken?: Error) => {
      client!.off("error", onError)
      client!.release(broken)
    }
    const onError = (cause: Error) => {
      if (!end()) return
      giveBack(cause)
      resume(failed("Connection lost", cause))
    }
    const giveUp = () => {
      if (end() && client !== undefined) cancel(pool, client, giveBack)
    }
    const timer = setTimeout(() => {
      giveUp()
      resume(late)
    }, limitMillis)
    pool.connect((cause, connected) => {
      if (connected === undefined) {
        if (end()) resume(failed("No connection", cause))
        return
      }
      if (ended) return connected.release()
      client = connected
      client.on("error", onError)
      client.query(text, values as Array<unknown>, (cause: Error | null, result: Pg.QueryResult) => {
        if (!end()) return
        giveBack()
        resume(cause === null ? Effect.succeed(result.rows) : failed("Statement failed", cause))
      })
    })
    return Effect.sync(giveUp)
  })

/** The moment, by a clock that never jumps, until which what begins now may take. */
export const deadline = (limit: Duration.DurationInput) => performance.now() + Duration.toMillis(limit)

/**
 * Executes a statement as the transaction that it is, right on the pool, and waits no longer than `until`; then it is
 * cancelled, and nobody waits for that. Inside `withTransaction` it is a part of that one, and has its limit.
 *
 * `@effect/sql` makes a scope, a span and copies of all references of the fiber for each, and a limit from outside takes
 * another fiber.
 */
export const executor = Effect.map(
  PostgresPool,
  (pool) => <A>(statement: Statement.Statement<A>, until: number) =>
    Effect.withFiberRuntime<ReadonlyArray<A>, SqlError.SqlError>((fiber) => {
      if (Context.getOption(fiber.currentContext, SqlClient.TransactionConnection)._tag === "Some") return statement
      const [text, values] = statement.compile()
      return Trace.span("sql.execute", {
        kind: "client",
        attributes: { "db.system.name": "postgresql", "db.query.text": text }
      })(onPool(pool, text, values, until - performance.now()))
    })
)
