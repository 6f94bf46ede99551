import { SqlClient } from "@effect/sql"
import type { Duration } from "effect"
import { Effect, Option } from "effect"
import type { PaymentStatus } from "../domain/Payment.js"
import { OrderId, Payment } from "../domain/Payment.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Trace from "../infra/runtime/Trace.js"

/** An order and the inventory key that created its payment. The key is null on rows that the Go service wrote. */
export interface OrderKey {
  readonly orderId: OrderId
  readonly inventoryKey: string | null
}

/** Array literal of elements that need no quotes: numbers, uuids, names. The driver would quote and escape each. */
export const plain = (values: ReadonlyArray<bigint | string>) => `{${values.join(",")}}`

/** The reads of `PaymentRepo`, within the limit of a batch or of a call. */
export const make = Effect.fnUntraced(function*(
  { batchLimit, callLimit }: Readonly<Record<"batchLimit" | "callLimit", Duration.Duration>>
) {
  const sql = yield* SqlClient.SqlClient
  const runBatch = yield* Postgres.runner(batchLimit)
  const run = yield* Postgres.runner(callLimit)

  /** The payments that exist with any of these orders or keys. */
  const existing = Effect.fnUntraced(function*(payments: ReadonlyArray<OrderKey>) {
    const rows = yield* sql<{ readonly order_id: string; readonly inventory_key: string | null }>`
      SELECT order_id, inventory_key FROM payment WHERE order_id = ANY(${payments.map((_) => _.orderId)}::bigint[])
      UNION
      SELECT order_id, inventory_key FROM payment WHERE inventory_key = ANY(${
      payments.map((_) => _.inventoryKey)
    }::uuid[])
    `.pipe(runBatch)
    return rows.map((row): OrderKey => ({
      orderId: OrderId.make(BigInt(row.order_id)),
      inventoryKey: row.inventory_key
    }))
  }, Trace.span("PaymentRepo.existing"))

  /**
   * Indices of the pairs that no payment has: this order with this key. One look into the index of the orders for each,
   * whatever the planner estimates.
   */
  const missing = Effect.fnUntraced(function*(payments: ReadonlyArray<OrderKey>) {
    const [row] = yield* sql<{ readonly places: ReadonlyArray<number> | null }>`
      SELECT array_agg(place::int - 1) AS places FROM unnest(
        ${plain(payments.map((_) => _.orderId))}::bigint[],
        ${plain(payments.map((_) => _.inventoryKey ?? "NULL"))}::uuid[]
      ) WITH ORDINALITY AS t (order_id, inventory_key, place)
      WHERE (SELECT inventory_key FROM payment WHERE payment.order_id = t.order_id) IS DISTINCT FROM inventory_key
    `.pipe(runBatch)
    return new Set(row!.places)
  }, Trace.span("PaymentRepo.missing"))

  const find = Effect.fnUntraced(function*(orderId: OrderId) {
    const [row] = yield* sql<
      {
        readonly status: PaymentStatus
        readonly created_at: Date
        readonly updated_at: Date
        readonly settled_by: string | null
      }
    >`
      SELECT status, created_at, updated_at, settled_by FROM payment WHERE order_id = ${orderId}
    `.pipe(run)
    return Option.map(
      Option.fromNullable(row),
      ({ created_at, settled_by, status, updated_at }) =>
        new Payment({
          orderId,
          status,
          createdAt: created_at,
          updatedAt: updated_at,
          settledBy: Option.fromNullable(settled_by)
        })
    )
  }, Trace.span("PaymentRepo.find"))

  /** Whether the payment of an order expired: no call settled it. */
  const hasExpired = (orderId: OrderId) =>
    sql`SELECT FROM payment WHERE order_id = ${orderId} AND reason = 'expired'`.pipe(
      run,
      Effect.map((rows) => rows.length > 0),
      Trace.span("PaymentRepo.hasExpired")
    )

  return { existing, missing, find, hasExpired } as const
})
