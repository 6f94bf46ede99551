import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import type { PaymentStatus } from "../domain/Payment.js"
import * as PaymentEvent from "../domain/PaymentEvent.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { By } from "./Operations.js"
import type { Pacing } from "./OutboxRepair.js"
import * as Pace from "./Pace.js"
import type { LeftOut, Repaired, Why } from "./Plan.js"
import * as Plans from "./Plan.js"

/** A record of topic `payment`. */
interface Told {
  readonly payload: string
  /** Milliseconds of the epoch. */
  readonly at: number
}

/** An order of which topic `payment` knows more than the database. */
export interface LostOrder {
  readonly orderId: string
  /** What the topic says. */
  readonly status: PaymentStatus
  /** Undefined where the database has the payment, or the topic has no such record any more. */
  readonly created: Told | undefined
  readonly settled: Told | undefined
}

/** What the database has lost. */
export interface LostPlan {
  readonly orders: ReadonlyArray<LostOrder>
  /** Ids of events that are on the topic, and wait in the database to be sent. */
  readonly sent: ReadonlyArray<string>
  readonly leftOut: ReadonlyArray<LeftOut>
}

interface Row {
  /** Place in the batch, from 1. */
  readonly n: number
  readonly payment: PaymentStatus | null
  readonly waiting: string | null
}

/**
 * Takes over from topic `payment` what the database has lost: a standby that took over before it had everything, or a restore.
 *
 * A payment that the topic calls `COMPLETED` or `FAILED` gets that status, so no later call contradicts the record. Its events
 * are written as `DONE`, with the bodies of their records. Nothing is sent.
 */
export class LostResults extends Effect.Service<LostResults>()("payments/LostResults", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const run = Postgres.run("60 seconds")

    const compare = (
      records: ReadonlyArray<{ readonly orderId: string; readonly says: PaymentStatus; readonly payload: string }>
    ) =>
      sql<Row>`
        SELECT n::int AS n, payment.status AS payment, event.id::text AS waiting
        FROM unnest(
          ${records.map((_) => _.orderId)}::bigint[], ${records.map((_) => _.says)}::payment_status[],
          ${records.map((_) => _.payload)}::text[]
        ) WITH ORDINALITY AS told (order_id, says, payload, n)
        LEFT JOIN payment ON payment.order_id = told.order_id
        -- an event that a relay has in hand is left to that relay
        LEFT JOIN event ON event.order_id = told.order_id AND event.status <> 'DONE' AND event.payload = told.payload
          AND batch IS NULL AND (lease_token IS NULL OR reserved_to < clock_timestamp())
        WHERE payment.order_id IS NULL OR event.id IS NOT NULL OR (says <> 'CREATED' AND says <> payment.status)
        ORDER BY n
      `.pipe(run)

    /** Reads the topic, and compares each record with the tables. `since` is in milliseconds of the epoch. */
    const plan = Effect.fn("LostResults.plan")(function*(options: {
      readonly kafka: KafkaOptions
      readonly topic: string
      readonly since: number | undefined
    }) {
      const orders = new Map<string, LostOrder>()
      const sent = new Set<string>()
      const out: Array<readonly [why: Why, example: string]> = []
      const spans = yield* KafkaOffsets.spans(options.kafka, options.topic, options.since)
      yield* KafkaScan.scan(options.kafka, options.topic, spans, (_, records) =>
        Effect.gen(function*() {
          const told = records.flatMap(({ timestamp, value }) => {
            const event = PaymentEvent.decode(value)
            if (event === undefined) return []
            const { orderId, status } = event
            return [{ orderId: String(orderId), says: status, payload: value!.toString(), at: Number(timestamp) }]
          })
          for (const { n, payment, waiting } of yield* compare(told)) {
            const { at, orderId, payload, says } = told[n - 1]!
            if (waiting !== null) sent.add(waiting)
            if (payment !== null && (says === "CREATED" || says === payment)) continue
            const known = orders.get(orderId)
            if ((payment ?? "CREATED") !== "CREATED" || (known?.settled !== undefined && known.status !== says)) {
              out.push([
                { reason: "topic and payment, or two records, contradict each other: payments order shows them" },
                `order ${orderId}`
              ])
            } else if (says === "CREATED") {
              if (known === undefined) {
                orders.set(orderId, { orderId, status: says, created: { payload, at }, settled: undefined })
              }
            } else if (known?.settled === undefined) {
              orders.set(orderId, { orderId, status: says, created: known?.created, settled: { payload, at } })
            }
          }
        }))
      return { orders: [...orders.values()], sent: [...sent], leftOut: Plans.leftOut(out) } satisfies LostPlan
    })

    const time = (name: string) => sql.literal(`to_timestamp(${name} / 1000)`)

    const step = (topic: string, { operator, reason, run: command }: By) => (orders: ReadonlyArray<LostOrder>) =>
      sql<{ readonly changed: number }>`
        WITH input AS MATERIALIZED (
          SELECT * FROM unnest(
            ${orders.map((_) => _.orderId)}::bigint[], ${orders.map((_) => _.status)}::payment_status[],
            ${orders.map((_) => _.created?.payload ?? null)}::text[], ${
        orders.map((_) => _.settled?.payload ?? null)
      }::text[],
            ${orders.map((_) => _.created?.at ?? null)}::float8[], ${orders.map((_) => _.settled?.at ?? null)}::float8[]
          ) AS t (order_id, status, created, settled, created_at, settled_at)
        ), made AS (
          INSERT INTO payment (order_id, status, created_at, updated_at, topic_generation)
          SELECT order_id, status, ${time("coalesce(created_at, settled_at)")}, ${
        time("coalesce(settled_at, created_at)")
      },
                 (SELECT nullif(max(generation), 0) FROM outbox_topic WHERE topic = ${topic}::text)
          FROM input ORDER BY order_id
          ON CONFLICT (order_id) DO NOTHING RETURNING order_id
        ), found AS MATERIALIZED (
          SELECT payment.order_id FROM payment JOIN input USING (order_id)
          WHERE payment.status = 'CREATED' AND settled IS NOT NULL ORDER BY order_id FOR UPDATE OF payment
        ), settled AS (
          UPDATE payment SET status = input.status, updated_at = ${time("settled_at")}
          FROM input WHERE payment.order_id = input.order_id AND payment.order_id IN (SELECT order_id FROM found)
          RETURNING payment.order_id
        ), taken AS (
          SELECT order_id, true AS new FROM made UNION ALL SELECT order_id, false FROM settled
        ), told AS (
          INSERT INTO event (topic, order_id, payload, status, created_at, done_at)
          SELECT ${topic}::text, order_id, payload, 'DONE', ${time("at")}, clock_timestamp() FROM (
            SELECT order_id, created AS payload, created_at AS at, 0 AS n FROM input JOIN taken USING (order_id)
            WHERE new AND created IS NOT NULL
            UNION ALL
            SELECT order_id, settled, settled_at, 1 FROM input JOIN taken USING (order_id) WHERE settled IS NOT NULL
          ) AS both_events ORDER BY order_id, n
        ), silent AS (
          -- CREATED after the terminal record would send the order back
          UPDATE event SET status = 'DONE', done_at = clock_timestamp(), reserved_to = NULL, lease_token = NULL
          WHERE order_id IN (SELECT order_id FROM settled) AND status <> 'DONE' AND batch IS NULL
            AND (lease_token IS NULL OR reserved_to < clock_timestamp())
        ), noted AS (
          INSERT INTO operation (run, operator, action, reason, order_id, before, after)
          SELECT ${command}::uuid, ${operator}, 'recover', ${reason}, order_id,
                 jsonb_build_object('payment', CASE WHEN NOT new THEN 'CREATED' END),
                 jsonb_build_object('payment', status)
          FROM taken JOIN input USING (order_id) ORDER BY order_id
        )
        SELECT count(*)::int AS changed FROM taken
      `.pipe(
        run,
        Effect.map(([row]): Repaired => ({ changed: row!.changed, unchanged: orders.length - row!.changed }))
      )

    const markSent = (ids: ReadonlyArray<string>) =>
      sql<{ readonly changed: number }>`
        WITH changed AS (
          UPDATE event SET status = 'DONE', done_at = clock_timestamp(), reserved_to = NULL, lease_token = NULL
          WHERE id = ANY(${[...ids]}::bigint[]) AND status::text <> 'DONE' AND batch IS NULL
            AND (lease_token IS NULL OR reserved_to < clock_timestamp())
          RETURNING id
        )
        SELECT count(*)::int AS changed FROM changed
      `.pipe(run)

    /** Takes the orders of a plan over, each only if the database still lacks it. Fails with `DatabaseUnavailable`. */
    const recover = Effect.fnUntraced(function*(plan: LostPlan, topic: string, by: By, { onStep, rate }: Pacing) {
      let done = 0
      const steps = yield* Pace.steps(
        Pace.single(plan.orders),
        rate,
        (orders) => Effect.tap(step(topic, by)(orders), ({ changed }) => onStep(done += changed))
      )
      yield* Pace.steps(Pace.single(plan.sent), rate, markSent)
      return Plans.sum(steps)
    })

    return { plan, recover } as const
  })
}) {}
