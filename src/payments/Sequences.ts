import type { Statement } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import type { Duration } from "effect"
import { Clock, Effect, Schedule, Schema } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresFault from "../infra/postgres/PostgresFault.js"
import type { Sequence } from "../infra/postgres/PostgresSequence.js"
import * as PostgresSequence from "../infra/postgres/PostgresSequence.js"
import * as PostgresStatement from "../infra/postgres/PostgresStatement.js"

/** Tables whose ids a sequence may make. Where an adopted table has uuids, there is none. */
const tables = ["payment", "event"] as const
export type Table = (typeof tables)[number]

/** The ids of a table collide with its rows, or are used up, and the service cannot mend that by itself. */
export class IdsStuck extends Schema.TaggedError<IdsStuck>()("IdsStuck", { problem: Schema.String }) {
  override get message() {
    return this.problem
  }
}

/** For so long after a repair that failed, the next one fails at once with the same reason. */
const pauseMillis = 1_000
const limit = "4 seconds"
/** Attempts of a statement, each after a repair. One is enough unless others take ids at the same time. */
const attempts = 3

/** Table of a row whose key was there already. */
const tableOf = ({ cause }: SqlError.SqlError): unknown =>
  typeof cause === "object" && cause !== null && "table" in cause ? cause.table : undefined

/** Tables of which an id may not have been new, or could not be given because it is used up or does not fit. */
const atFault = (error: SqlError.SqlError): ReadonlyArray<Table> => {
  const state = PostgresFault.stateOf(error.cause)
  if (state === "2200H" || state === "22003") return tables
  // of a payment the order or the key is there, nearly always: see Creation.ts
  return state === "23505" && tableOf(error) === "event" ? ["event"] : []
}

/** The server does not answer, or takes no changes now: waiting may help. */
const isAway = ({ cause }: SqlError.SqlError) => ["away", "read-only"].includes(PostgresFault.of(cause))

/**
 * The sequences that make ids of payments and events, and that may be behind their rows: after a restore, logical
 * replication, or a change of machines. No order and no decision rests on an id; only that it is new. So a sequence may
 * be set forward at any time: that is done at the start, and when an id collides. See docs/operations.md.
 */
export class Sequences extends Effect.Service<Sequences>()("payments/Sequences", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const execute = yield* PostgresStatement.executor
    const one = yield* Effect.makeSemaphore(1)
    /** Why a table has no new ids, since the last attempt, in milliseconds of the process's own clock. */
    const stuck = new Map<Table, { readonly problem: IdsStuck; readonly at: number }>()

    const monotonic = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))
    const look = (table: Table) =>
      PostgresSequence.look(table).pipe(Effect.provideService(SqlClient.SqlClient, sql), Postgres.run(limit))

    /** Where the sequences stand that there are. Changes nothing. */
    const check: Effect.Effect<ReadonlyArray<Sequence>, Postgres.DatabaseUnavailable> = Effect.map(
      Effect.forEach(tables, look),
      (all) => all.filter((sequence) => sequence !== undefined)
    )

    const forward = (sequence: Sequence) =>
      PostgresSequence.forward(sequence).pipe(
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.as(undefined),
        // as a value: each attempt may wait for the lock, and holds up those who write
        Effect.catchIf((error) => !isAway(error), (error) => {
          const locked = PostgresFault.stateOf(error.cause) === "55P03"
          const why = locked ? "another transaction holds the table" : (error.cause as Error).message
          return Effect.succeed(
            new IdsStuck({
              problem: `${PostgresSequence.says(sequence)}, and could not be set forward: ${why}${
                locked ? "" : `; run ${PostgresSequence.statement(sequence)}`
              }`
            })
          )
        }),
        Postgres.run(limit),
        Effect.flatMap((problem) => problem === undefined ? Effect.void : Effect.fail(problem))
      )

    const repair = Effect.fnUntraced(function*(table: Table) {
      const sequence = yield* look(table)
      if (sequence === undefined) return false
      const why = PostgresSequence.hopeless(sequence)
      if (why !== undefined) return yield* new IdsStuck({ problem: why })
      if (sequence.taken === undefined) return false
      yield* forward(sequence)
      yield* Effect.logWarning(`${PostgresSequence.says(sequence)}: it was set forward`).pipe(
        Effect.annotateLogs({ from: String(sequence.next), to: String(sequence.taken + sequence.increment) })
      )
      return true
    })

    /** Says once what lasts: when it begins, when its reason changes, and when it is over. */
    const tell = Effect.fnUntraced(function*(table: Table, problem: IdsStuck | undefined) {
      const before = stuck.get(table)
      if (problem === undefined) {
        stuck.delete(table)
        if (before !== undefined) yield* Effect.logInfo(`table ${table} has new ids again`)
      } else {
        stuck.set(table, { problem, at: yield* monotonic })
        if (before?.problem.message !== problem.message) yield* Effect.logError(problem.message)
      }
    })

    /** Rows of a table got new ids. */
    const fine = (table: Table) => Effect.suspend(() => stuck.has(table) ? tell(table, undefined) : Effect.void)

    /**
     * Sets the sequence of a table past its rows, when it is behind. Answers whether it was; fails with the reason where that
     * cannot be done, and then says so in the log, once.
     */
    const mend = (table: Table): Effect.Effect<boolean, IdsStuck | Postgres.DatabaseUnavailable> =>
      Effect.gen(function*() {
        const failed = stuck.get(table)
        if (failed !== undefined && (yield* monotonic) - failed.at < pauseMillis) return yield* failed.problem
        const mended = yield* Effect.tapErrorTag(repair(table), "IdsStuck", (problem) => tell(table, problem))
        yield* tell(table, undefined)
        return mended
      }).pipe(one.withPermits(1))

    /**
     * Runs a statement that writes payments or events; where an id collides, again when the sequence is mended. A sequence
     * that cannot be mended is an error without SQLSTATE: its cause says what to do.
     */
    const minding = <A>(statement: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, SqlError.SqlError> => {
      if (stuck.has("event")) return Effect.zipLeft(minded(statement), fine("event"))
      return minded(statement)
    }

    const minded = <A>(statement: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, SqlError.SqlError> => {
      const attempt = (left: number): Effect.Effect<A, SqlError.SqlError> =>
        Effect.catchAll(statement, (error) => {
          const suspects = atFault(error)
          if (suspects.length === 0) return Effect.fail(error)
          return Effect.forEach(suspects, mend).pipe(
            Effect.mapError((cause) => new SqlError.SqlError({ message: "No new id", cause })),
            Effect.flatMap((mended) => {
              const collides = suspects.length === 1
              if (left > 1 && (collides || mended.includes(true))) return attempt(left - 1)
              // no sequence is behind, and still: somebody else's unique key, or ids that a session keeps in its cache
              return Effect.fail(
                collides
                  ? new SqlError.SqlError({ message: "No new id", cause: new Error((error.cause as Error).message) })
                  : error
              )
            })
          )
        })
      return attempt(attempts)
    }

    /** The same as `Postgres.runner`, for statements that write events. */
    const writer = (limit: Duration.DurationInput) => <A>(statement: Statement.Statement<A>) =>
      Postgres.until(limit)((moment) => minding(execute(statement, moment)))

    /** Mends what is behind already, and says what cannot be mended; to be run at the start. */
    const prepare = Effect.forEach(tables, (table) =>
      repair(table).pipe(
        Effect.retry({
          while: ({ _tag }) => _tag === "DatabaseUnavailable",
          times: 5,
          schedule: Schedule.spaced("1 second")
        }),
        // ids that are free may come before those that are not: the service starts, and an id that collides is found
        Effect.catchAll((problem) => Effect.logError(problem.message))
      ), { discard: true })

    /** Fails with the reason while a table has no new ids. */
    const health: Effect.Effect<void, IdsStuck> = Effect.suspend(() => {
      const [table] = stuck.keys()
      return table === undefined
        ? Effect.void
        : Effect.catchTag(Effect.asVoid(mend(table)), "DatabaseUnavailable", () => Effect.void)
    })

    return { check, mend, fine, minding, writer, prepare, health } as const
  })
}) {}
