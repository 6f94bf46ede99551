import type { Statement } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import { Cause, Context, Duration, Effect } from "effect"
import type * as Pg from "pg"
import * as Trace from "../runtime/Trace.js"
import * as PostgresFault from "./PostgresFault.js"
import type { Pool } from "./PostgresPool.js"

/** The connections below the `SqlClient`. */
export class PostgresPool extends Context.Tag("payments/PostgresPool")<PostgresPool, Pool>() {}

/** Milliseconds that a connection is kept while its statement is being cancelled. */
const cancelMillis = 1_000

const failed = (message: string, cause: unknown) => Effect.fail(new SqlError.SqlError({ message, cause }))

/** The failure of a statement that has used up its limit. */
export const late = Effect.suspend(() =>
  failed("No answer in time", new Cause.TimeoutException("statement took too long"))
)

/** Cancels an abandoned statement. When it still runs after `cancelMillis`, the pool closes its connection. */
const cancel = (pool: Pg.Pool, client: Pg.PoolClient, then: () => void) => {
  let pending = true
  const end = () => {
    clearTimeout(timer)
    if (pending) then()
    pending = false
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
    /** True for the first caller: there is one end. */
    const end = () => {
      clearTimeout(timer)
      return ended ? false : ended = true
    }
    // an error without a listener would end the process, so the listener stays until the release
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

const summaries = new Map<string, string>()

/**
 * A statement in a few words, for the name of its span: what it changes, e.g. `INSERT payment INSERT event`, or else what it
 * reads first. Names no value.
 */
export const summaryOf = (text: string): string => {
  const known = summaries.get(text)
  if (known !== undefined) return known
  const words = text.replaceAll(/--.*$/gm, "")
  const changes = [...words.matchAll(/\b(INSERT|UPDATE|DELETE)(?: INTO| FROM)? ([a-z_]+)/g)]
    .map(([, verb, table]) => `${verb} ${table}`)
  const [, table] = /\bFROM ([a-z_]+)/.exec(words) ?? []
  const summary = [...new Set(changes)].join(" ") || (table === undefined ? "SELECT" : `SELECT ${table}`)
  // texts are templates, and few; a caller that makes them up must not fill the memory
  if (summaries.size < 1_000) summaries.set(text, summary)
  return summary
}

/** Attributes by the OpenTelemetry semantic conventions 1.45 (https://opentelemetry.io/docs/specs/semconv/database/postgresql). */
const attributesOf = ({ options: { database, host, port } }: Pool, text: string, summary: string) => ({
  "db.system.name": "postgresql",
  "db.namespace": database,
  "db.query.summary": summary,
  "db.query.text": text,
  "server.address": host,
  "server.port": port
})

/** Runs a statement in a span when a collector is set. A failure has the SQLSTATE. */
const inSpan = <A>(pool: Pool, text: string, run: Effect.Effect<A, SqlError.SqlError>) =>
  Effect.withFiberRuntime<A, SqlError.SqlError>((fiber) => {
    if (Trace.recorder(fiber) === undefined) return run
    const summary = summaryOf(text)
    return run.pipe(
      Effect.tapError(({ cause }) => {
        const state = PostgresFault.stateOf(cause)
        return Effect.annotateCurrentSpan({
          "error.type": state ?? "connection",
          ...(state === undefined ? {} : { "db.response.status_code": state })
        })
      }),
      Trace.span(summary, { kind: "client", attributes: attributesOf(pool, text, summary) })
    )
  })

/** Time of `performance.now()` at which a limit that starts now ends. */
export const deadline = (limit: Duration.DurationInput) => performance.now() + Duration.toMillis(limit)

/**
 * Executes a single-statement transaction directly on the pool. At `until` (`performance.now()`) it fails and cancels the
 * statement in the background. Inside `withTransaction` the statement joins that transaction and has its limit.
 *
 * Reason: for each statement `@effect/sql` makes a scope, a span and a copy of all fiber references, and an outer time-out
 * takes another fiber. Figures: docs/decisions/statement-on-pool.md.
 */
export const executor = Effect.map(
  PostgresPool,
  (pool) => <A>(statement: Statement.Statement<A>, until: number) =>
    Effect.withFiberRuntime<ReadonlyArray<A>, SqlError.SqlError>((fiber) => {
      if (Context.getOption(fiber.currentContext, SqlClient.TransactionConnection)._tag === "Some") return statement
      const [text, values] = statement.compile()
      return inSpan(pool, text, onPool(pool, text, values, until - performance.now()))
    })
)
