import { SqlClient } from "@effect/sql"
import { Duration, Effect, Option } from "effect"
import type { Outcome, PaymentStatus } from "../domain/Payment.js"
import { OrderId, Payment } from "../domain/Payment.js"
import * as Postgres from "../infra/Postgres.js"
import * as Trace from "../infra/Trace.js"
import type { Announcement, Written } from "../outbox/Append.js"
import { Outbox } from "../outbox/Outbox.js"

/** A payment to create, with its event. */
export interface NewPayment extends Announcement {
  readonly orderId: OrderId
  readonly inventoryKey: string
}

/** A payment to settle, with its event. */
export interface Settlement extends Announcement {
  readonly orderId: OrderId
  readonly outcome: Outcome
}

/** Who has an order, or an inventory key, already. The key is null on rows that the Go service wrote. */
export interface Known {
  readonly orderId: OrderId
  readonly inventoryKey: string | null
}

const wasCreated = Option.some<PaymentStatus>("CREATED")
const callLimit = Duration.seconds(4)
const batchLimit = Duration.seconds(20)

/** An array of what needs no quotes: numbers, uuids, names. The driver quotes and escapes each element. */
const plain = (values: ReadonlyArray<bigint | string>) => `{${values.join(",")}}`
/** No payload and no traceparent has a line break, and an array of texts is many times as dear to write. */
const lines = (values: ReadonlyArray<string | null>) => values.join("\n")

const byOrder = (announcements: ReadonlyArray<Announcement & { readonly orderId: OrderId }>) =>
  new Map(announcements.map((_) => [_.orderId, _]))

/** Statements over payments. Each is one transaction: payment and event, or neither. The relay is told of the events. */
export class PaymentRepo extends Effect.Service<PaymentRepo>()("payments/PaymentRepo", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox

    /** Creates the payments whose order and key are both new, and answers the orders of the others. No two may share either. */
    const create = Effect.fnUntraced(function*(payments: ReadonlyArray<NewPayment>) {
      const { refused } = yield* outbox.write(
        byOrder(payments),
        (advance) =>
          sql<Written & { readonly refused: ReadonlyArray<string> | null }>`
        WITH input AS MATERIALIZED (
          SELECT * FROM unnest(
            ${plain(payments.map((_) => _.orderId))}::bigint[],
            ${plain(payments.map((_) => _.inventoryKey))}::uuid[],
            string_to_array(${lines(payments.map((_) => _.payload))}, E'\\n'),
            string_to_array(${lines(payments.map((_) => _.traceparent))}, E'\\n', '')
          ) AS t (order_id, inventory_key, payload, traceparent)
        ), created AS (
          INSERT INTO payment (order_id, status, inventory_key)
          SELECT order_id, 'CREATED', inventory_key FROM input
          ORDER BY order_id -- all writers lock in one order
          ON CONFLICT DO NOTHING
          RETURNING order_id
        ), appended AS (
          ${outbox.append(sql`SELECT order_id, payload, traceparent FROM created JOIN input USING (order_id)`, advance)}
        )
        -- they are few, and those that were created many
        SELECT (SELECT array_agg(order_id) FROM input WHERE order_id NOT IN (SELECT order_id FROM created)) AS refused,
               ${outbox.written}
      `.pipe(Postgres.run(batchLimit))
      )
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
      `.pipe(Postgres.run(batchLimit))
      return rows.map((row): Known => ({
        orderId: OrderId.make(BigInt(row.order_id)),
        inventoryKey: row.inventory_key
      }))
    }, Trace.span("PaymentRepo.known"))

    /** Moves a payment from `CREATED` to its outcome; waits for whoever has its row. Answers the status it had before; none when there is no payment. */
    const settle = Effect.fnUntraced(
      function*(settlement: Settlement) {
        const { orderId, outcome, payload, traceparent } = settlement
        const { status } = yield* outbox.write(
          byOrder([settlement]),
          (advance) =>
            sql<Written & { readonly status: PaymentStatus | null }>`
          WITH target AS MATERIALIZED (
            -- the lock waits for a settlement under way, and then reads what it left
            SELECT id, status FROM payment WHERE order_id = ${orderId} FOR UPDATE
          ), settled AS (
            UPDATE payment SET status = ${outcome}::payment_status, updated_at = clock_timestamp()
            FROM target
            WHERE payment.id = target.id AND target.status = 'CREATED'
            RETURNING order_id
          ), appended AS (
            ${
              outbox.append(
                sql`SELECT order_id, ${payload}::text AS payload, ${traceparent}::text AS traceparent FROM settled`,
                advance
              )
            }
          )
          SELECT (SELECT status FROM target) AS status, ${outbox.written}
        `.pipe(Postgres.run(callLimit))
        )
        return Option.fromNullable(status)
      },
      Trace.span("PaymentRepo.settle")
    )

    /** Those of the orders that have a payment. */
    const existing = Effect.fnUntraced(function*(orderIds: ReadonlyArray<OrderId>) {
      const rows = yield* sql<{ readonly order_id: string }>`
        SELECT order_id FROM payment WHERE order_id = ANY(${orderIds}::bigint[])
      `.pipe(Postgres.run(callLimit))
      return rows.map((row) => OrderId.make(BigInt(row.order_id)))
    }, Trace.span("PaymentRepo.existing"))

    /**
     * The same for many orders, no two of them equal, in one transaction. Waits for nobody: a payment whose row is held
     * by another transaction is left as it is, and answered `held`.
     */
    const settleAll = Effect.fnUntraced(function*(settlements: ReadonlyArray<Settlement>) {
      const { others } = yield* outbox.write(
        byOrder(settlements),
        (advance) =>
          sql<Written & { readonly others: Readonly<Record<string, PaymentStatus | null>> | null }>`
        WITH asked AS MATERIALIZED (
          SELECT * FROM unnest(
            ${plain(settlements.map((_) => _.orderId))}::bigint[],
            ${plain(settlements.map((_) => _.outcome))}::payment_status[],
            string_to_array(${lines(settlements.map((_) => _.payload))}, E'\\n'),
            string_to_array(${lines(settlements.map((_) => _.traceparent))}, E'\\n', '')
          ) AS t (order_id, outcome, payload, traceparent)
        ), target AS MATERIALIZED (
          -- one held row would hold up all the others; and who never waits is in no deadlock
          SELECT payment.id, order_id, payment.status AS before, outcome, payload, traceparent
          FROM asked JOIN payment USING (order_id)
          ORDER BY order_id
          FOR UPDATE OF payment SKIP LOCKED
        ), settled AS (
          UPDATE payment SET status = target.outcome, updated_at = clock_timestamp()
          FROM target
          WHERE payment.id = target.id AND target.before = 'CREATED'
          RETURNING payment.order_id, target.payload, target.traceparent
        ), appended AS (
          ${outbox.append(sql`SELECT order_id, payload, traceparent FROM settled`, advance)}
        )
        -- most were CREATED, and those are not told
        SELECT (
          SELECT json_object_agg(order_id, before) FROM asked LEFT JOIN target USING (order_id)
          WHERE before IS DISTINCT FROM 'CREATED'
        ) AS others, ${outbox.written}
      `.pipe(Postgres.run(callLimit))
      )
      const found = new Map<OrderId, Option.Option<PaymentStatus> | "held">(
        settlements.map((_) => [_.orderId, wasCreated])
      )
      const unseen: Array<OrderId> = []
      for (const [order, before] of Object.entries(others ?? {})) {
        const orderId = OrderId.make(BigInt(order))
        found.set(orderId, Option.fromNullable(before))
        if (before === null) unseen.push(orderId)
      }
      if (unseen.length > 0) { for (const orderId of yield* existing(unseen)) found.set(orderId, "held") }
      return found
    }, Trace.span("PaymentRepo.settleAll"))

    const find = Effect.fnUntraced(function*(orderId: OrderId) {
      const [row] = yield* sql<
        { readonly status: PaymentStatus; readonly created_at: Date; readonly updated_at: Date }
      >`
        SELECT status, created_at, updated_at FROM payment WHERE order_id = ${orderId}
      `.pipe(Postgres.run(callLimit))
      return Option.map(
        Option.fromNullable(row),
        ({ created_at, status, updated_at }) =>
          new Payment({ orderId, status, createdAt: created_at, updatedAt: updated_at })
      )
    }, Trace.span("PaymentRepo.find"))

    /** Ends when the database has answered. */
    const ping = sql`SELECT 1`.pipe(Postgres.run(callLimit), Effect.asVoid, Effect.withSpan("PaymentRepo.ping"))

    return { create, known, settle, settleAll, find, ping } as const
  })
}) {}
