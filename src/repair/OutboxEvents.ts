import { SqlClient } from "@effect/sql"
import type { Statement } from "@effect/sql"
import { Effect } from "effect"
import type { State } from "../domain/EventState.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Turn from "../outbox/Turn.js"

/** Limits which events are meant. All given conditions must hold. */
export interface Selection {
  readonly events: ReadonlyArray<bigint>
  readonly orders: ReadonlyArray<bigint>
  /** Text that `last_error` contains. */
  readonly error: string | undefined
}

/** Selects all events. */
export const everything: Selection = { events: [], orders: [], error: undefined }

/** An event that is not `DONE`. */
export interface UndoneEvent {
  readonly id: string
  /** Null for an adopted event that cannot be read. */
  readonly order_id: string | null
  /** The status in its body; null when it has none. */
  readonly says: string | null
  readonly status: "WAIT" | "DEAD"
  readonly state: State
  readonly attempts: number
  readonly last_error: string | null
  readonly created_at: Date
  /** End of the lease or of the back-off. */
  readonly reserved_to: Date | null
  /** Token of the claim that leases it. */
  readonly lease_token: string | null
  /** Delivery `exactly-once`: batch, shard and the relay that owns the shard. */
  readonly batch: string | null
  readonly shard: number | null
  readonly owner: string | null
  /** Where a list goes on after this event. */
  readonly cursor: string
}

/** How many events share a state and an error. */
export interface Group {
  readonly state: State
  readonly last_error: string | null
  readonly count: number
  readonly oldest: Date
  /** Up to three ids. */
  readonly examples: ReadonlyArray<string>
}

/** A dead event, and the events of its order that wait for it. */
export interface Blocking {
  readonly id: string
  readonly order_id: string | null
  readonly says: string | null
  readonly attempts: number
  readonly last_error: string | null
  readonly created_at: Date
  readonly behind: number
  /** When the first event behind it was written; null without one. */
  readonly behind_since: Date | null
}

/** The status in the body of an event, as an expression. */
export const says = (row: string) => `substring(${row}.payload FROM '"status":"([A-Z]+)"')`

/** The state of row `candidate` of `event`, as an expression; `done` for a published event. */
export const stateOf = (sql: SqlClient.SqlClient) => {
  const { isNext } = Turn.make(sql)
  return sql`
    CASE WHEN candidate.status = 'DONE' THEN 'done'
         WHEN candidate.status = 'DEAD' THEN 'dead'
         WHEN candidate.batch IS NOT NULL OR (lease_token IS NOT NULL AND reserved_to > clock_timestamp()) THEN 'leased'
         WHEN NOT ${isNext} THEN 'behind'
         WHEN reserved_to > clock_timestamp() THEN 'backing-off'
         ELSE 'due' END
  `
}

/** Conditions of a selection over rows of `event`. */
export const conditions = (sql: SqlClient.SqlClient, row: string, { error, events, orders }: Selection) =>
  sql.and([
    ...(events.length === 0 ? [] : [sql`${sql.literal(row)}.id = ANY(${events.map(String)}::bigint[])`]),
    ...(orders.length === 0 ? [] : [sql`${sql.literal(row)}.order_id = ANY(${orders.map(String)}::bigint[])`]),
    ...(error === undefined ? [] : [sql`strpos(${sql.literal(row)}.last_error, ${error}) > 0`]),
    sql`true`
  ])

/** Reads what the outbox has not published. */
export class OutboxEvents extends Effect.Service<OutboxEvents>()("payments/OutboxEvents", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const run = Postgres.run("30 seconds")
    const { isNext } = Turn.make(sql)

    /** Undone events with their state. All conditions are those of partial indexes: DONE events are never read. */
    const undone = (selection: Selection) =>
      sql`
        SELECT id, order_id, ${
        sql.literal(says("candidate"))
      } AS says, status, attempts, last_error, created_at, reserved_to,
               lease_token, batch, ${stateOf(sql)} AS state
        FROM event AS candidate WHERE status <> 'DONE' AND ${conditions(sql, "candidate", selection)}
      `

    const ofState = (state: State | undefined): Statement.Fragment =>
      state === undefined ? sql`` : sql`WHERE state = ${state}`

    /** Time in microseconds, which JSON and `Date` would round. */
    const micros = sql`(extract(epoch FROM created_at) * 1000000)::bigint`

    /**
     * The oldest `limit` undone events of a selection, oldest first; those behind the cursor of an event if it is given. Fails with
     * `DatabaseUnavailable`.
     */
    const list = (selection: Selection, state: State | undefined, limit: number, after?: string) => {
      const [at, id] = after?.split("_") ?? []
      const behind = at === undefined ? sql`` : sql`AND (${micros}, id) > (${at}::bigint, ${id!}::bigint)`
      return sql<UndoneEvent>`
        WITH page AS MATERIALIZED (
          SELECT * FROM (${undone(selection)} ${
        state === "dead" ? sql`AND status = 'DEAD'` : state === undefined ? sql`` : sql`AND status = 'WAIT'`
      } ${behind}) AS undone ${ofState(state)} ORDER BY created_at, id LIMIT ${limit}
        )
        SELECT page.id, page.order_id, says, page.status, attempts, last_error, page.created_at, reserved_to, state, lease_token,
               page.batch, shard.shard::int AS shard, shard.owner, ${micros} || '_' || page.id AS cursor
        FROM page LEFT JOIN outbox_shard AS shard ON page.batch IS NOT NULL
          AND shard.shard = hashint8(order_id) & (SELECT count(*)::int - 1 FROM outbox_shard)
        ORDER BY created_at, id
      `.pipe(run)
    }

    /** Counts the undone events of a selection by state and error: dead ones first, then the largest group. */
    const groups = (selection: Selection, state: State | undefined) =>
      sql<Group>`
        SELECT state, last_error, count(*)::int AS count, min(created_at) AS oldest,
               ((array_agg(id ORDER BY created_at, id))[1:3])::text[] AS examples
        FROM (${undone(selection)}) AS undone ${ofState(state)}
        GROUP BY state, last_error ORDER BY state <> 'dead', count DESC, state, last_error
      `.pipe(run)

    /** The oldest `limit` dead events, with the number of events that wait behind each. */
    const blocked = (selection: Selection, limit: number) =>
      sql<Blocking>`
        SELECT dead.id, dead.order_id, ${
        sql.literal(says("dead"))
      } AS says, dead.attempts, dead.last_error, dead.created_at,
               behind.count AS behind, behind.since AS behind_since
        FROM event AS dead, LATERAL (
          SELECT count(*)::int AS count, min(created_at) AS since FROM event AS candidate
          WHERE candidate.order_id = dead.order_id AND candidate.status <> 'DONE' AND candidate.id <> dead.id
            AND NOT ${isNext}
        ) AS behind
        WHERE dead.status = 'DEAD' AND ${conditions(sql, "dead", selection)}
        ORDER BY dead.created_at, dead.id LIMIT ${limit}
      `.pipe(run)

    /** How many events are dead, and how many events wait behind them. */
    const blockedTotal = sql<{ readonly dead: number; readonly behind: number }>`
      SELECT (SELECT count(*)::int FROM event WHERE status <> 'DONE' AND status = 'DEAD') AS dead,
             (SELECT count(*)::int FROM event AS candidate
              WHERE status = 'WAIT' AND NOT ${isNext} AND EXISTS (
                SELECT FROM event AS dead WHERE dead.order_id = candidate.order_id AND dead.status <> 'DONE' AND dead.status = 'DEAD'
              )) AS behind
    `.pipe(run, Effect.map(([row]) => row!))

    return { list, groups, blocked, blockedTotal } as const
  })
}) {}
