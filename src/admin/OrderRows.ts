import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import type { PaymentStatus } from "../domain/Payment.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { PaymentFact } from "../story/Facts.js"

/** What to find. With an order or a key at most one payment. */
export interface OrderQuery {
  readonly orderId: string | undefined
  readonly key: string | undefined
  readonly status: PaymentStatus | undefined
  readonly from: Date | undefined
  readonly until: Date | undefined
  /** Id of the payment after which the search goes on. */
  readonly after: string | undefined
  readonly limit: number
}

/** The payment of an order, with the number of its undone events. */
export interface OrderRow extends PaymentFact {
  readonly id: string
  readonly order_id: string
  readonly events_waiting: number
  readonly events_dead: number
}

interface Window {
  readonly rows: ReadonlyArray<OrderRow>
  /** Payments that were read. */
  readonly examined: number
  /** The last one of them; null when there are no more. */
  readonly next: string | null
}

/** The most payments that one request reads: by the primary key, because no other order has an index. */
const window = 20_000

/** Ids beside the id that was written at a time: later ids may commit earlier. */
const margin = 1_000

/** Finds payments by indexes that exist: those of the order, the key and the id. */
export const make = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const run = Postgres.run("10 seconds")

  const columns = sql`
    payment.id::text AS id, payment.order_id, payment.status, payment.created_at, payment.updated_at, inventory_key, payment.reason,
    settled_by, undone.waiting AS events_waiting, undone.dead AS events_dead
  `
  /** The undone events of each payment, by their partial index. */
  const undone = sql`
    LATERAL (
      SELECT count(*) FILTER (WHERE event.status = 'WAIT')::int AS waiting,
             count(*) FILTER (WHERE event.status = 'DEAD')::int AS dead
      FROM event WHERE event.order_id = payment.order_id AND event.status <> 'DONE'
    ) AS undone
  `

  const one = (condition: Statement.Fragment) =>
    sql<OrderRow>`SELECT ${columns} FROM payment, ${undone} WHERE ${condition}`.pipe(
      run,
      Effect.map((rows): Window => ({ rows, examined: rows.length, next: null }))
    )

  /** True where the ids are numbers, which rise with time. An adopted table may have uuids. */
  const rises = yield* Effect.cached(
    sql<{ readonly numbers: boolean }>`
      SELECT data_type IN ('bigint', 'integer', 'smallint') AS numbers FROM information_schema.columns
      WHERE table_schema = current_schema() AND table_name = 'payment' AND column_name = 'id'
    `.pipe(run, Effect.map(([row]) => row?.numbers ?? false))
  )

  /** The id from which on payments are newer than a time, by halving. Some that were written at that time may lie on both sides. */
  const idAt = (at: Date) =>
    sql<{ readonly id: string | null }>`
      WITH RECURSIVE search AS (
        SELECT min(id)::bigint AS low, max(id)::bigint + 1 AS high FROM payment
        UNION ALL
        SELECT CASE WHEN older THEN probe.id ELSE low END, CASE WHEN older THEN high ELSE (low + high) / 2 END
        FROM search, LATERAL (
          SELECT id, created_at <= ${at} AS older FROM payment WHERE id > (low + high) / 2 ORDER BY id LIMIT 1
        ) AS probe
        WHERE high - low > 1000
      )
      SELECT (high + ${margin})::text AS id FROM search ORDER BY search.high - search.low LIMIT 1
    `.pipe(run, Effect.map(([row]) => row?.id ?? undefined))

  const windowed = ({ from, limit, status, until }: OrderQuery, size: number, before: string | undefined) =>
    sql<OrderRow & { readonly examined: number; readonly last: string | null; readonly found: boolean }>`
      WITH seen AS MATERIALIZED (
        SELECT id, status, created_at FROM payment ${before === undefined ? sql`` : sql`WHERE id < ${before}`}
        ORDER BY id DESC LIMIT ${size}
      ), matching AS MATERIALIZED (
        SELECT id FROM seen WHERE ${
      sql.and([
        ...(status === undefined ? [] : [sql`status = ${status}`]),
        ...(from === undefined ? [] : [sql`created_at >= ${from}`]),
        ...(until === undefined ? [] : [sql`created_at < ${until}`]),
        sql`true`
      ])
    } ORDER BY id DESC LIMIT ${limit}
      ), about AS (
        SELECT (SELECT count(*)::int FROM seen) AS examined, (SELECT id::text FROM seen ORDER BY seen.id LIMIT 1) AS last
      )
      SELECT about.examined, about.last, payment.id IS NOT NULL AS found, ${columns}
      FROM about LEFT JOIN (matching JOIN payment USING (id)) ON true LEFT JOIN ${undone} ON payment.id IS NOT NULL
      ORDER BY matching.id DESC
    `.pipe(run)

  /** Finds payments, newest first. Fails with `DatabaseUnavailable`. */
  const find = Effect.fn("OrderRows.find")(function*(query: OrderQuery) {
    const { after, from, key, limit, orderId, status, until } = query
    if (orderId !== undefined || key !== undefined) {
      return yield* one(sql.and([
        ...(orderId === undefined ? [] : [sql`payment.order_id = ${orderId}::bigint`]),
        ...(key === undefined ? [] : [sql`inventory_key = ${key}::uuid`]),
        ...(status === undefined ? [] : [sql`payment.status = ${status}`])
      ]))
    }
    const jump = after === undefined && until !== undefined && (yield* rises)
    const before = jump ? yield* idAt(until) : after
    const size = status === undefined && from === undefined && until === undefined ? limit : window
    const found = yield* windowed(query, size, before)
    const [first] = found
    const rows = found.filter((row) => row.found)
    const full = rows.length === limit
    const whole = first!.examined < size && !full
    // ids rise with time, so that older payments cannot match
    const past = from !== undefined && (yield* rises) && !full && first!.examined > 0 &&
      (yield* isOlder(first!.last!, from))
    return {
      rows,
      examined: first!.examined,
      next: whole || past ? null : full ? rows.at(-1)!.id : first!.last
    } satisfies Window
  })

  /** A margin: ids that were written at about the same time are not in the order of their times. */
  const isOlder = (id: string, from: Date) =>
    sql<{ readonly older: boolean }>`
      SELECT created_at < ${from}::timestamptz - interval '1 minute' AS older FROM payment WHERE id = ${id}
    `.pipe(run, Effect.map(([row]) => row?.older ?? false))

  return { find } as const
})
