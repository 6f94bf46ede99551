import { SqlClient, SqlError } from "@effect/sql"
import { Duration, Effect, Option } from "effect"
import type { PaymentStatus } from "../domain/Payment.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Decode from "./Decode.js"
import type { EventState, Seconds } from "./Facts.js"
import type { FactStore } from "./FactStore.js"

export interface TablesOptions {
  /** Topic whose events must have records. */
  readonly topic: string
  /** Time of the database before the ends of the topics were read. */
  readonly startedAt: string
  /** Orders without a younger row and without a record on a topic are left out. */
  readonly since: Seconds | undefined
  /** Reads the rows of this order alone, and the payments of other orders that have one of the `keys`. */
  readonly order: bigint | undefined
  readonly keys: ReadonlyArray<string>
  readonly retention: Duration.Duration
  /** Called with the number of rows before the first is read. */
  readonly onTotal: (count: number) => Effect.Effect<void>
  readonly onRead: (count: number) => Effect.Effect<void>
}

const pageSize = 10_000
const page = Postgres.run("60 seconds")

/** Runs all reads of the effect in one snapshot. A lost connection is `DatabaseUnavailable`. */
const snapshot = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    return yield* sql.withTransaction(
      Effect.zipRight(sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY`.pipe(page), effect)
    )
  }).pipe(
    // BEGIN, COMMIT and ROLLBACK fail with SqlError; the last two as defects
    Effect.catchSomeDefect((defect) =>
      defect instanceof SqlError.SqlError ? Option.some(Effect.fail(defect)) : Option.none()
    ),
    Effect.catchIf(
      (error) => error instanceof SqlError.SqlError,
      (error) => new Postgres.DatabaseUnavailable({ cause: (error as SqlError.SqlError).cause })
    )
  )

/** Reads rows page by page, sorted by a key: memory stays small, and no statement runs long. */
const pages = Effect.fnUntraced(function*<A, E, E2, R>(
  read: (after: string) => Effect.Effect<ReadonlyArray<A>, E, R>,
  keyOf: (row: A) => string,
  take: (row: A) => void,
  done: (count: number) => Effect.Effect<void, E2>
) {
  let after = "-9223372036854775808"
  for (;;) {
    const rows = yield* read(after)
    for (const row of rows) take(row)
    yield* done(rows.length)
    if (rows.length < pageSize) return
    after = keyOf(rows.at(-1)!)
  }
})

/** The time of the database's clock. */
export const clock = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly now: string }>`SELECT clock_timestamp()::text AS now`.pipe(page)
  return row!.now
})

interface PaymentColumns {
  readonly order_id: string
  readonly status: PaymentStatus
  readonly inventory_key: string | null
  readonly created_at: number
  readonly updated_at: number
}

interface EventColumns {
  readonly id: string
  readonly order_id: string | null
  readonly payload: string
  readonly status: EventState
  readonly created_at: number
  readonly due: boolean
  readonly skipped: boolean
  readonly replayed: boolean
}

/** Reads both tables into the store. Read the topics first, because rows are committed before their records are written. */
export const read = Effect.fn("Audit.tables")(function*(options: TablesOptions, store: FactStore) {
  const sql = yield* SqlClient.SqlClient
  const counts = { payments: 0, WAIT: 0, DONE: 0, DEAD: 0, unreadable: 0 }
  const isOld = (time: Seconds) => options.since !== undefined && time < options.since
  const done = (count: number) => Effect.zipRight(store.write, options.onRead(count))

  const payments = (after: string) =>
    sql<PaymentColumns>`
      SELECT order_id, status, inventory_key,
             floor(extract(epoch FROM created_at))::float8 AS created_at,
             floor(extract(epoch FROM updated_at))::float8 AS updated_at
      FROM payment WHERE order_id > ${after}::bigint AND ${
      options.order === undefined
        ? sql`true`
        : sql`(order_id = ${options.order}::bigint OR inventory_key = ANY(${options.keys}::uuid[]))`
    }
      ORDER BY order_id LIMIT ${pageSize}
    `.pipe(page)

  const takePayment = ({ created_at, inventory_key, order_id, status, updated_at }: PaymentColumns) => {
    counts.payments++
    const key = inventory_key === null ? 0 : Decode.digest(inventory_key)
    const row = { status, createdAt: created_at, updatedAt: updated_at }
    store.addPayment(BigInt(order_id), row, key, isOld(updated_at))
  }

  const events = (after: string) =>
    sql<EventColumns>`
      SELECT id, order_id, payload, status, floor(extract(epoch FROM created_at))::float8 AS created_at,
             (status = 'DONE' AND topic = ${options.topic} AND done_at < ${options.startedAt}::timestamptz) AS due,
             (status = 'DONE' AND (
               SELECT action FROM operation WHERE event_id = event.id ORDER BY operation.id DESC LIMIT 1
             ) IS NOT DISTINCT FROM 'outbox skip') AS skipped,
             EXISTS (SELECT FROM operation WHERE event_id = event.id AND action = 'outbox replay') AS replayed
      FROM event WHERE id > ${after}::bigint AND ${
      options.order === undefined ? sql`true` : sql`order_id = ${options.order}::bigint`
    }
      ORDER BY id LIMIT ${pageSize}
    `.pipe(page)

  const takeEvent = ({ created_at, due, id, order_id, payload, replayed, skipped, status }: EventColumns) => {
    counts[status]++
    const body = Decode.payment(Buffer.from(payload))
    const orderId = order_id === null ? body?.orderId : BigInt(order_id)
    // a row of the Go service may belong to no payment
    if (orderId === undefined) counts.unreadable++
    else {
      store.addEvent(orderId, {
        id: Number(id),
        state: status,
        createdAt: created_at,
        key: body?.key ?? 0,
        says: body?.says,
        exact: body?.exact === true && body.orderId === orderId,
        adopted: order_id === null,
        due,
        skipped,
        replayed
      }, isOld(created_at))
    }
  }

  return yield* snapshot(Effect.gen(function*() {
    const [row] = yield* sql<{ readonly now: number; readonly rows: number; readonly oldest: number | null }>`
      SELECT floor(extract(epoch FROM clock_timestamp()))::float8 AS now,
             ((SELECT count(*) FROM payment) + (SELECT count(*) FROM event))::float8 AS rows,
             (SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM event
              WHERE status = 'WAIT') AS oldest
    `.pipe(page)
    yield* options.onTotal(row!.rows)
    yield* pages(payments, (_) => _.order_id, takePayment, done)
    yield* pages(events, (_) => _.id, takeEvent, done)
    // the clocks of relay and database need not agree to the second
    const prunedBefore = row!.now - Math.floor(Duration.toSeconds(options.retention)) + 60
    return { counts, oldestWaiting: row!.oldest ?? 0, prunedBefore }
  }))
})
