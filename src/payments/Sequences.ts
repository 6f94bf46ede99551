import type { Statement } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import type { Duration } from "effect"
import { Clock, Effect, Schedule, Schema } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresFault from "../infra/postgres/PostgresFault.js"
import type { Sequence } from "../infra/postgres/PostgresSequence.js"
import * as PostgresSequence from "../infra/postgres/PostgresSequence.js"
import * as PostgresStatement from "../infra/postgres/PostgresStatement.js"

/** Tables whose ids may come from a sequence. An adopted table with uuids has none. */
const tables = ["payment", "event"] as const
export type Table = (typeof tables)[number]

/** New ids of a table collide with its rows, or are used up, and the service cannot repair that by itself. */
export class IdsStuck extends Schema.TaggedError<IdsStuck>()("IdsStuck", { problem: Schema.String }) {
  readonly waitsFor = "operator"

  override get message() {
    return this.problem
  }
}

/** After a failed repair, the next one within this time fails at once with the same reason. */
const pauseMillis = 1_000
const limit = "4 seconds"
/** Attempts of a statement, each after a repair. One is enough unless other writers take ids at the same time. */
const attempts = 3

/** Table whose unique key a row violated. */
const tableOf = ({ cause }: SqlError.SqlError): unknown =>
  typeof cause === "object" && cause !== null && "table" in cause ? cause.table : undefined

/** Tables whose next id may be taken, used up or too large for its column. */
const atFault = (error: SqlError.SqlError): ReadonlyArray<Table> => {
  const state = PostgresFault.stateOf(error.cause)
  if (state === "2200H" || state === "22003") return tables
  // for a payment, the order or the key nearly always exists: see PaymentRepo.create
  return state === "23505" && tableOf(error) === "event" ? ["event"] : []
}

/** The server does not answer, or takes no changes now: a later attempt may succeed. */
const isAway = ({ cause }: SqlError.SqlError) => ["away", "read-only"].includes(PostgresFault.of(cause))

/**
 * The identity sequences of payments and events. A sequence may be behind its rows: after a restore, logical replication, or a
 * move to other servers. Ids only have to be new; no order of events rests on them. So this service sets a sequence forward
 * at the start, and when an id collides. See docs/operations.md.
 */
export class Sequences extends Effect.Service<Sequences>()("payments/Sequences", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const execute = yield* PostgresStatement.executor
    const one = yield* Effect.makeSemaphore(1)
    /** Tables without new ids: the reason, and the time of the last repair in milliseconds of the monotonic clock. */
    const stuck = new Map<Table, { readonly problem: IdsStuck; readonly at: number }>()

    const monotonic = Effect.map(Clock.currentTimeNanos, (nanos) => Number(nanos / 1_000_000n))
    const look = (table: Table) =>
      PostgresSequence.look(table).pipe(Effect.provideService(SqlClient.SqlClient, sql), Postgres.run(limit))

    /** State of each existing sequence. Changes nothing. */
    const check: Effect.Effect<ReadonlyArray<Sequence>, Postgres.DatabaseUnavailable> = Effect.map(
      Effect.forEach(tables, look),
      (all) => all.filter((sequence) => sequence !== undefined)
    )

    const forward = (sequence: Sequence) =>
      PostgresSequence.forward(sequence).pipe(
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.as(undefined),
        // a value, so that it is not attempted again: each attempt may wait for the lock, and blocks writers
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

    const setForward = Effect.fnUntraced(function*(table: Table) {
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

    /** A statement has just given new ids to rows of the table. */
    const recovered = (table: Table) => Effect.sync(() => void stuck.delete(table))

    /**
     * Sets the sequence of a table past its rows when it is behind. Returns whether it was. Fails with the reason where it
     * cannot; `health` fails with it until it can, and the part `postgres` logs that.
     */
    const repair = (table: Table): Effect.Effect<boolean, IdsStuck | Postgres.DatabaseUnavailable> =>
      Effect.gen(function*() {
        const failed = stuck.get(table)
        if (failed !== undefined && (yield* monotonic) - failed.at < pauseMillis) return yield* failed.problem
        const wasBehind = yield* Effect.tapErrorTag(
          setForward(table),
          "IdsStuck",
          (problem) => Effect.map(monotonic, (at) => void stuck.set(table, { problem, at }))
        )
        stuck.delete(table)
        return wasBehind
      }).pipe(one.withPermits(1))

    /**
     * Runs a statement that writes payments or events; after a collision of ids, again with the sequence repaired. A sequence
     * that cannot be repaired is an error without SQLSTATE: its cause says what to do.
     */
    const withRepair = <A>(statement: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, SqlError.SqlError> => {
      if (stuck.has("event")) return Effect.zipLeft(repairing(statement), recovered("event"))
      return repairing(statement)
    }

    const repairing = <A>(statement: Effect.Effect<A, SqlError.SqlError>): Effect.Effect<A, SqlError.SqlError> => {
      const attempt = (left: number): Effect.Effect<A, SqlError.SqlError> =>
        Effect.catchAll(statement, (error) => {
          const suspects = atFault(error)
          if (suspects.length === 0) return Effect.fail(error)
          return Effect.forEach(suspects, repair).pipe(
            Effect.mapError((cause) => new SqlError.SqlError({ message: "No new id", cause })),
            Effect.flatMap((wereBehind) => {
              const collides = suspects.length === 1
              if (left > 1 && (collides || wereBehind.includes(true))) return attempt(left - 1)
              // no sequence is behind: a foreign unique key refuses the row, or a session caches ids
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

    /** As `Postgres.runner`, for statements that write events. */
    const writer = (limit: Duration.DurationInput) => <A>(statement: Statement.Statement<A>) =>
      Postgres.until(limit)((moment) => withRepair(execute(statement, moment)))

    /** Run at the start: sets forward each sequence that is behind, and logs what it cannot repair. */
    const prepare = Effect.forEach(tables, (table) =>
      setForward(table).pipe(
        Effect.retry({
          while: ({ _tag }) => _tag === "DatabaseUnavailable",
          times: 5,
          schedule: Schedule.spaced("1 second")
        }),
        // free ids may come before the first taken one, so the service starts; a collision repairs again
        Effect.catchAll((problem) => Effect.logError(problem.message))
      ), { discard: true })

    /** Fails with the reason while a table has no new ids. */
    const health: Effect.Effect<void, IdsStuck> = Effect.suspend(() => {
      const [table] = stuck.keys()
      return table === undefined
        ? Effect.void
        : Effect.catchTag(Effect.asVoid(repair(table)), "DatabaseUnavailable", () => Effect.void)
    })

    return { check, repair, recovered, withRepair, writer, prepare, health } as const
  })
}) {}
