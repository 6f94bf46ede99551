import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import { OrderId } from "../domain/Payment.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresStatement from "../infra/postgres/PostgresStatement.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Announcement, Written } from "../outbox/Append.js"
import type { Outbox } from "../outbox/Outbox.js"
import { byOrder, lines, plain } from "./Columns.js"
import type { Sequences } from "./Sequences.js"

/** A payment to create, with its event. */
export interface NewPayment extends Announcement {
  readonly orderId: OrderId
  readonly inventoryKey: string
}

/** Who has an order, or an inventory key, already. The key is null on rows that the Go service wrote. */
export interface Known {
  readonly orderId: OrderId
  readonly inventoryKey: string | null
}

const batchLimit = Duration.seconds(20)

/** The statements by which orders get their payments. */
export const make = Effect.fnUntraced(function*(outbox: Outbox, sequences: Sequences) {
  const sql = yield* SqlClient.SqlClient
  const execute = yield* PostgresStatement.executor
  const run = yield* Postgres.runner(batchLimit)
  /** Whether the last payments that were to be created had some among them that were there. */
  let repeats = false

  /**
   * Creates the payments whose order and key are both new, and answers the orders of the others. No two may share either.
   * An order whose row got an id that was there is among the others, too, and `known` does not know it.
   *
   * To look for each row before it is written (`ON CONFLICT`) is a fifth of the statement, and nearly all are new: so
   * that is done only when one was not, and until all are again.
   */
  const create = Effect.fnUntraced(function*(payments: ReadonlyArray<NewPayment>) {
    const { refused } = yield* outbox.write(
      byOrder(payments),
      (advance) => {
        const input = sql`
          SELECT * FROM unnest(
            ${plain(payments.map((_) => _.orderId))}::bigint[],
            ${plain(payments.map((_) => _.inventoryKey))}::uuid[],
            string_to_array(${lines(payments.map((_) => _.payload))}, E'\\n'),
            string_to_array(${lines(payments.map((_) => _.traceparent))}, E'\\n', '')
          ) AS t (order_id, inventory_key, payload, traceparent)
        `
        const statement = (onConflict: Statement.Fragment) =>
          sql<Written & { readonly refused: ReadonlyArray<string> | null }>`
            WITH input AS MATERIALIZED (${input}), created AS (
              INSERT INTO payment (order_id, status, inventory_key, topic_generation)
              SELECT order_id, 'CREATED', inventory_key, ${outbox.generation} FROM input
              ORDER BY order_id -- all writers lock in one order
              ${onConflict}
              RETURNING order_id, topic_generation
            ), appended AS (
              ${
            outbox.append(
              sql`SELECT order_id, payload, traceparent, topic_generation FROM created JOIN input USING (order_id)`,
              advance
            )
          }
            )
            -- they are few, and those that were created many
            SELECT (
              SELECT array_agg(order_id) FROM input WHERE order_id NOT IN (SELECT order_id FROM created)
            ) AS refused, ${outbox.written}
          `
        return Postgres.until(batchLimit)((until) => {
          const write = (onConflict: Statement.Fragment) => sequences.minding(execute(statement(onConflict), until))
          const careful = Effect.suspend(() => write(sql`ON CONFLICT DO NOTHING`)).pipe(
            Effect.tap(([row]) => Effect.sync(() => repeats = row!.refused !== null))
          )
          return repeats ? careful : Effect.catchIf(write(sql``), Postgres.isTaken, () => careful)
        })
      }
    )
    if (refused === null) yield* sequences.fine("payment")
    return new Set((refused ?? []).map((order) => OrderId.make(BigInt(order))))
  }, Trace.span("PaymentRepo.create"))

  /** What is there already of these orders and keys. */
  const known = Effect.fnUntraced(function*(payments: ReadonlyArray<Known>) {
    const rows = yield* sql<{ readonly order_id: string; readonly inventory_key: string | null }>`
      SELECT order_id, inventory_key FROM payment WHERE order_id = ANY(${payments.map((_) => _.orderId)}::bigint[])
      UNION
      SELECT order_id, inventory_key FROM payment WHERE inventory_key = ANY(${
      payments.map((_) => _.inventoryKey)
    }::uuid[])
    `.pipe(run)
    return rows.map((row): Known => ({
      orderId: OrderId.make(BigInt(row.order_id)),
      inventoryKey: row.inventory_key
    }))
  }, Trace.span("PaymentRepo.known"))

  /**
   * Which of these are no payment with this very order and key, by their places in the list. One look into the index of
   * the orders for each, whatever the planner believes.
   */
  const missing = Effect.fnUntraced(function*(payments: ReadonlyArray<Known>) {
    const [row] = yield* sql<{ readonly places: ReadonlyArray<number> | null }>`
      SELECT array_agg(place::int - 1) AS places FROM unnest(
        ${plain(payments.map((_) => _.orderId))}::bigint[],
        ${plain(payments.map((_) => _.inventoryKey ?? "NULL"))}::uuid[]
      ) WITH ORDINALITY AS t (order_id, inventory_key, place)
      WHERE (SELECT inventory_key FROM payment WHERE payment.order_id = t.order_id) IS DISTINCT FROM inventory_key
    `.pipe(run)
    return new Set(row!.places)
  }, Trace.span("PaymentRepo.missing"))

  return { create, known, missing } as const
})
