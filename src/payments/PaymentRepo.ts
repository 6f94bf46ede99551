import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect, Option } from "effect"
import type { Outcome, PaymentStatus } from "../domain/Payment.js"
import { OrderId, Payment } from "../domain/Payment.js"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresTemplate from "../infra/postgres/PostgresTemplate.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Announcement, Written } from "../outbox/Append.js"
import { Outbox } from "../outbox/Outbox.js"
import { byOrder, lines, plain } from "./Columns.js"
import * as Creation from "./Creation.js"
import { Sequences } from "./Sequences.js"

/** A payment to settle, with its event. */
export interface Settlement extends Announcement {
  readonly orderId: OrderId
  readonly outcome: Outcome
}

/** What a payment was: none when there is no payment, `held` when that could not be seen. */
export type Before = Option.Option<PaymentStatus> | "held"

const callLimit = Duration.seconds(4)

/** Statements over payments. Each is one transaction: payment and event, or neither. The relay is told of the events. */
export class PaymentRepo extends Effect.Service<PaymentRepo>()("payments/PaymentRepo", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox

    const sequences = yield* Sequences
    const run = yield* Postgres.runner(callLimit)
    const creation = yield* Creation.make(outbox, sequences)
    const write = sequences.writer(callLimit)

    /** The statement for one payment. Who has its row is waited for, or not, as `lock` says. */
    const settlingOne = (lock: Statement.Fragment) => {
      const statement = (leases: boolean) =>
        PostgresTemplate.make<
          Written & { readonly status: PaymentStatus | null },
          Pick<Settlement, "orderId" | "outcome" | "payload" | "traceparent"> & { readonly token: string | undefined }
        >(sql, ({ orderId, outcome, payload, token, traceparent }) =>
          sql`
          WITH target AS MATERIALIZED (
            -- the lock reads what a settlement under way has left
            SELECT id, status FROM payment WHERE order_id = ${orderId} ${lock}
          ), settled AS (
            UPDATE payment SET status = ${outcome}::payment_status, updated_at = clock_timestamp()
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
              leases ? { token } : undefined
            )
          }
          )
          SELECT (SELECT status FROM target) AS status, ${outbox.written}
        `)
      const [leasing, waiting] = [statement(true), statement(false)]
      return (settlement: Settlement) =>
        outbox.write(byOrder([settlement]), (advance) =>
          write(
            advance === undefined
              ? waiting({ ...settlement, token: undefined })
              : leasing({ ...settlement, token: advance.token })
          ))
    }

    const [settleWaiting, settleFree] = [settlingOne(sql`FOR UPDATE`), settlingOne(sql`FOR UPDATE SKIP LOCKED`)]

    /** Moves a payment from `CREATED` to its outcome; waits for whoever has its row. Answers the status it had before; none when there is no payment. */
    const settle = (settlement: Settlement) =>
      settleWaiting(settlement).pipe(
        Effect.map(({ status }) => Option.fromNullable(status)),
        Trace.span("PaymentRepo.settle")
      )

    /** What those payments were whose rows were not found: none when there is none, `held` when somebody has them. */
    const unseen = Effect.fnUntraced(function*(orderIds: ReadonlyArray<OrderId>) {
      const rows = yield* run(sql<{ readonly order_id: string }>`
        SELECT order_id FROM payment WHERE order_id = ANY(${orderIds}::bigint[])
      `)
      const existing = new Set(rows.map((row) => row.order_id))
      return orderIds.map((orderId): [OrderId, Before] => [
        orderId,
        existing.has(String(orderId)) ? "held" : Option.none()
      ])
    }, Trace.span("PaymentRepo.unseen"))

    /** The statement for many payments: `others` are those that were not `CREATED`, null where the row was not found. */
    const settlingMany = (leases: boolean) =>
      PostgresTemplate.make<
        Written & { readonly others: Readonly<Record<string, PaymentStatus | null>> | null },
        Record<"orders" | "outcomes" | "payloads" | "traceparents", string> & { readonly token: string | undefined }
      >(sql, ({ orders, outcomes, payloads, token, traceparents }) =>
        sql`
        WITH asked AS MATERIALIZED (
          SELECT * FROM unnest(
            ${orders}::bigint[],
            ${outcomes}::payment_status[],
            string_to_array(${payloads}, E'\\n'),
            string_to_array(${traceparents}, E'\\n', '')
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
          RETURNING payment.order_id, target.payload, target.traceparent, payment.topic_generation
        ), appended AS (
          ${
          outbox.append(
            sql`SELECT order_id, payload, traceparent, topic_generation FROM settled`,
            leases ? { token } : undefined
          )
        }
        )
        -- most were CREATED, and those are not told
        SELECT (
          SELECT json_object_agg(order_id, before) FROM asked LEFT JOIN target USING (order_id)
          WHERE before IS DISTINCT FROM 'CREATED'
        ) AS others, ${outbox.written}
      `)
    const [settleManyLeasing, settleManyWaiting] = [settlingMany(true), settlingMany(false)]

    const settleMany = (settlements: ReadonlyArray<Settlement>) =>
      outbox.write(byOrder(settlements), (advance) => {
        const values = {
          orders: plain(settlements.map((_) => _.orderId)),
          outcomes: plain(settlements.map((_) => _.outcome)),
          payloads: lines(settlements.map((_) => _.payload)),
          traceparents: lines(settlements.map((_) => _.traceparent)),
          token: advance?.token
        }
        return write(advance === undefined ? settleManyWaiting(values) : settleManyLeasing(values))
      })

    /**
     * The same for many orders, no two of them equal, in one transaction. Waits for nobody: a payment whose row is held
     * by another transaction is left as it is, and answered `held`. Answers those that were not `CREATED`.
     */
    const settleAll = (
      settlements: ReadonlyArray<Settlement>
    ): Effect.Effect<ReadonlyMap<OrderId, Before>, DatabaseUnavailable> => {
      const [first] = settlements
      const others = settlements.length === 1
        ? Effect.map(
          settleFree(first!),
          ({ status }) => status === "CREATED" ? {} : { [String(first!.orderId)]: status }
        )
        : Effect.map(settleMany(settlements), ({ others }) => others ?? {})
      return others.pipe(
        Effect.flatMap((others) => {
          const found = new Map<OrderId, Before>()
          const notFound: Array<OrderId> = []
          for (const [order, before] of Object.entries(others)) {
            const orderId = OrderId.make(BigInt(order))
            if (before === null) notFound.push(orderId)
            else found.set(orderId, Option.some(before))
          }
          return notFound.length === 0
            ? Effect.succeed(found)
            : Effect.map(unseen(notFound), (befores) => new Map([...found, ...befores]))
        }),
        Trace.span("PaymentRepo.settleAll")
      )
    }

    const find = Effect.fnUntraced(function*(orderId: OrderId) {
      const [row] = yield* sql<
        { readonly status: PaymentStatus; readonly created_at: Date; readonly updated_at: Date }
      >`
        SELECT status, created_at, updated_at FROM payment WHERE order_id = ${orderId}
      `.pipe(run)
      return Option.map(
        Option.fromNullable(row),
        ({ created_at, status, updated_at }) =>
          new Payment({ orderId, status, createdAt: created_at, updatedAt: updated_at })
      )
    }, Trace.span("PaymentRepo.find"))

    /** Ends when the database has answered. */
    const ping = sql`SELECT 1`.pipe(run, Effect.asVoid, Effect.withSpan("PaymentRepo.ping"))

    return { ...creation, settle, settleAll, find, ping, mendIds: sequences.mend("payment") } as const
  }),
  dependencies: [Sequences.Default]
}) {}
