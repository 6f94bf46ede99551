import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import type { PaymentStatus, TerminalStatus } from "../domain/Payment.js"
import { OrderId } from "../domain/Payment.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresStatement from "../infra/postgres/PostgresStatement.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Appended, NewEvent } from "../outbox/Outbox.js"
import { Outbox } from "../outbox/Outbox.js"
import type { Reason } from "../outbox/OutboxEvent.js"
import * as PaymentReads from "./PaymentReads.js"
import { plain } from "./PaymentReads.js"
import { Sequences } from "./Sequences.js"

/** A payment to create, with its event. */
export interface NewPayment extends NewEvent {
  readonly orderId: OrderId
  readonly inventoryKey: string
}

/** A payment to settle, with its event. */
export interface Settlement extends NewEvent {
  readonly orderId: OrderId
  readonly status: TerminalStatus
  /** Name of the caller, without line breaks, at most 200 characters. Undefined: it has none. */
  readonly settledBy?: string | undefined
}

/**
 * What a settlement found: the status of the payment before it, `absent` without a payment, `locked` while another
 * transaction holds its row. Only `CREATED` is changed.
 */
export type Before = PaymentStatus | "absent" | "locked"

/** Values of the statement for one settlement. `token` is null without a relay that takes the event. */
type OneSettlement = Pick<Settlement, "orderId" | "status" | "payload" | "traceparent"> & {
  readonly settledBy: string | null
  readonly token: string | null
}

const batchLimit = Duration.seconds(20)
const callLimit = Duration.seconds(4)

/** Texts without line breaks (payload, traceparent, name) for `string_to_array`: an array of texts costs the driver many times as much. */
const lines = (values: ReadonlyArray<string | null | undefined>) => values.join("\n")

/** Statements over payments. Each is one transaction: payment and event, or neither. Events are dispatched after the commit. */
export class PaymentRepo extends Effect.Service<PaymentRepo>()("payments/PaymentRepo", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox
    const sequences = yield* Sequences
    const execute = yield* PostgresStatement.executor
    const reads = yield* PaymentReads.make({ batchLimit, callLimit })
    const run = yield* Postgres.runner(callLimit)
    const write = sequences.writer(callLimit)

    /** Whether the last batch to create had payments among it that exist. */
    let hadExisting = false

    const insertPayments = (
      payments: ReadonlyArray<NewPayment>,
      token: string | undefined,
      onConflict: Statement.Fragment
    ) =>
      sql<Appended & { readonly refused: ReadonlyArray<string> | null }>`
        WITH input AS MATERIALIZED (
          SELECT * FROM unnest(
            ${plain(payments.map((_) => _.orderId))}::bigint[],
            ${plain(payments.map((_) => _.inventoryKey))}::uuid[],
            string_to_array(${lines(payments.map((_) => _.payload))}, E'\\n'),
            string_to_array(${lines(payments.map((_) => _.traceparent))}, E'\\n', '')
          ) AS t (order_id, inventory_key, payload, traceparent)
        ), created AS (
          INSERT INTO payment (order_id, status, inventory_key, topic_generation)
          SELECT order_id, 'CREATED', inventory_key, ${outbox.topicGeneration} FROM input
          ORDER BY order_id -- all writers lock in one order
          ${onConflict}
          RETURNING order_id, topic_generation
        ), appended AS (
          ${
        outbox.append(
          sql`SELECT order_id, payload, traceparent, topic_generation FROM created JOIN input USING (order_id)`,
          token
        )
      }
        )
        -- the refused orders are few, the created ones many
        SELECT (
          SELECT array_agg(order_id) FROM input WHERE order_id NOT IN (SELECT order_id FROM created)
        ) AS refused, ${outbox.appended}
      `

    /**
     * Creates the payments whose order and key are both new. Returns the orders of the others. No two payments may share an
     * order or a key. A new row whose id is taken is refused too; `existing` does not find its order.
     *
     * `ON CONFLICT` looks each row up before it is written, a fifth of the statement, and nearly all rows are new: only after
     * a batch with an existing payment is it used, until a batch has none.
     */
    const create = Effect.fnUntraced(function*(asked: ReadonlyArray<NewPayment>) {
      const { committed, events: payments } = outbox.creating(yield* Trace.recording, asked)
      const lease = outbox.lease()
      const [row] = yield* Postgres.until(batchLimit)((until) => {
        const insert = (onConflict: Statement.Fragment) =>
          sequences.withRepair(execute(insertPayments(payments, lease?.token, onConflict), until))
        const skippingExisting = Effect.suspend(() => insert(sql`ON CONFLICT DO NOTHING`)).pipe(
          Effect.tap(([row]) => Effect.sync(() => hadExisting = row!.refused !== null))
        )
        return hadExisting ? skippingExisting : Effect.catchIf(insert(sql``), Postgres.isTaken, () => skippingExisting)
      })
      const refused = new Set((row!.refused ?? []).map((order) => OrderId.make(BigInt(order))))
      yield* committed(lease, row!, ({ orderId }) => !refused.has(orderId))
      if (row!.refused === null) yield* sequences.recovered("payment")
      return refused
    }, Trace.span("PaymentRepo.create"))

    /** `Before` of an order whose row a `SKIP LOCKED` did not find. */
    const notFound = (orderId: unknown) =>
      sql`CASE WHEN EXISTS (SELECT FROM payment WHERE payment.order_id = ${orderId}) THEN 'locked' ELSE 'absent' END`

    /**
     * The statement for one settlement. It exists beside `manyStatement` for the latency of a lone call: 399 µs against
     * 440 µs for a batch of one (best of 600 in turns).
     */
    const oneStatement =
      <B extends Before>(lock: Statement.Fragment, notFound: (orderId: OrderId) => Statement.Fragment) =>
      ({ orderId, payload, settledBy, status, token, traceparent }: OneSettlement) =>
        sql<Appended & { readonly before: B }>`
        WITH target AS MATERIALIZED (
          -- the lock reads the status that a finished transaction left
          SELECT id, status FROM payment WHERE order_id = ${orderId} ${lock}
        ), settled AS (
          UPDATE payment SET status = ${status}::payment_status, updated_at = clock_timestamp(),
            settled_by = ${settledBy}::text
          FROM target
          WHERE payment.id = target.id AND target.status = 'CREATED'
          RETURNING order_id, topic_generation
        ), appended AS (
          ${
          outbox.append(
            sql`
              SELECT order_id, ${payload}::text AS payload, ${traceparent}::text AS traceparent, topic_generation
              FROM settled
            `,
            token
          )
        }
        )
        SELECT coalesce((SELECT status::text FROM target), ${notFound(orderId)}) AS before, ${outbox.appended}
      `

    const settleOne = <B extends Before>(
      statement: (values: OneSettlement) => Statement.Statement<Appended & { readonly before: B }>
    ) =>
    (asked: Settlement) =>
      Effect.withFiberRuntime<B, DatabaseUnavailable>((fiber) => {
        const { committed, events: [settlement] } = outbox.creating(Trace.recorder(fiber), [asked])
        const lease = outbox.lease()
        return write(statement({
          ...settlement!,
          settledBy: settlement!.settledBy ?? null,
          token: lease?.token ?? null
        })).pipe(
          Effect.flatMap(([row]) => Effect.as(committed(lease, row!, () => row!.before === "CREATED"), row!.before))
        )
      })

    const settleUnlocked = settleOne(oneStatement<Before>(sql`FOR UPDATE SKIP LOCKED`, notFound))
    const settleWaiting = settleOne(oneStatement<Exclude<Before, "locked">>(sql`FOR UPDATE`, () => sql`'absent'`))

    /** Settles one payment, and waits for a transaction that holds its row. */
    const settle = (settlement: Settlement) => Trace.span("PaymentRepo.settle")(settleWaiting(settlement))

    /**
     * The statement for many settlements. `before` has one value of `Before` for each, in their order, joined by commas: a row
     * for each would cost the driver more.
     */
    const manyStatement = (settlements: ReadonlyArray<Settlement>, token: string | null, reason?: Reason) =>
      sql<Appended & { readonly before: string }>`
      WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(
          ${plain(settlements.map((_) => _.orderId))}::bigint[],
          ${plain(settlements.map((_) => _.status))}::payment_status[],
          string_to_array(${lines(settlements.map((_) => _.payload))}, E'\\n'),
          string_to_array(${lines(settlements.map((_) => _.traceparent))}, E'\\n', ''),
          string_to_array(${lines(settlements.map((_) => _.settledBy))}, E'\\n', '')
        ) WITH ORDINALITY AS t (order_id, new_status, payload, traceparent, caller, place)
      ), target AS MATERIALIZED (
        -- a locked row would hold up all the others; a statement that never waits is in no deadlock
        SELECT payment.id, payment.status AS before, asked.*
        FROM asked JOIN payment USING (order_id)
        ORDER BY order_id
        FOR UPDATE OF payment SKIP LOCKED
      ), settled AS (
        UPDATE payment SET status = target.new_status, updated_at = clock_timestamp(), settled_by = target.caller${
        reason === undefined ? sql`` : sql`, reason = ${reason}::text`
      }
        FROM target
        WHERE payment.id = target.id AND target.before = 'CREATED'
        RETURNING payment.order_id, target.payload, target.traceparent, payment.topic_generation
      ), appended AS (
        ${
        outbox.append(
          sql`SELECT order_id, payload, traceparent, topic_generation FROM settled`,
          reason === undefined ? token : undefined,
          reason
        )
      }
      )
      SELECT (
        SELECT string_agg(coalesce(before::text, ${notFound(sql`asked.order_id`)}), ',' ORDER BY asked.place)
        FROM asked LEFT JOIN target USING (place)
      ) AS before, ${outbox.appended}
    `

    /** With a reason the events wait for a claim: a dispatch carries no reason. */
    const settleMany = (asked: ReadonlyArray<Settlement>, reason?: Reason) =>
      Effect.withFiberRuntime<ReadonlyArray<Before>, DatabaseUnavailable>((fiber) => {
        const { committed, events: settlements } = outbox.creating(Trace.recorder(fiber), asked)
        const lease = reason === undefined ? outbox.lease() : undefined
        return write(manyStatement(settlements, lease?.token ?? null, reason)).pipe(
          Effect.flatMap(([row]) => {
            const befores = row!.before.split(",") as ReadonlyArray<Before>
            return Effect.as(committed(lease, row!, (_, place) => befores[place] === "CREATED"), befores)
          })
        )
      })

    /**
     * Settles payments of different orders in one transaction that never waits for a row: it leaves a payment whose row is
     * locked unchanged, and returns `locked`. Returns one `Before` for each, in their order.
     */
    const settleAll = (
      settlements: ReadonlyArray<Settlement>
    ): Effect.Effect<ReadonlyArray<Before>, DatabaseUnavailable> =>
      Trace.span("PaymentRepo.settleAll")(
        settlements.length === 1
          ? Effect.map(settleUnlocked(settlements[0]!), (before) => [before])
          : settleMany(settlements)
      )

    /** Like `settleAll`, for payments that no call settles: the reason is stored with payment and event. */
    const expireAll = (settlements: ReadonlyArray<Settlement>) =>
      Trace.span("PaymentRepo.expireAll")(settleMany(settlements, "expired"))

    /** Succeeds when the database answers. */
    const ping = sql`SELECT 1`.pipe(run, Effect.asVoid, Trace.span("PaymentRepo.ping"))

    return { create, ...reads, settle, settleAll, expireAll, ping, repairIds: sequences.repair("payment") } as const
  }),
  dependencies: [Sequences.Default]
}) {}
