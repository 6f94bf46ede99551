import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import { says, stateOf } from "../repair/OutboxEvents.js"
import type { EventFact, PaymentFact } from "./Facts.js"

/** Ids on each side of the id that was written at a time: later ids may commit earlier. */
const margin = 20_000

interface PaymentRow extends PaymentFact {
  /** Partitions over which the events of the order are spread; null while no relay has seen the topic. */
  readonly partitions: number | null
}

/** Reads the rows of one order. */
export const make = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const run = Postgres.run("15 seconds")

  const payment = (orderId: bigint, topic: string) =>
    sql<PaymentRow>`
      SELECT status, created_at, updated_at, inventory_key, reason, settled_by,
             (SELECT partitions FROM outbox_topic
              WHERE topic = ${topic} AND generation = coalesce(payment.topic_generation, 0)) AS partitions
      FROM payment WHERE order_id = ${orderId}::bigint
    `.pipe(run, Effect.map(([row]) => row))

  /** The orders whose payments were created by these keys. */
  const owners = (keys: ReadonlyArray<string>) =>
    sql<{ readonly order_id: string; readonly inventory_key: string }>`
      SELECT order_id, inventory_key FROM payment WHERE inventory_key = ANY(${keys}::uuid[])
    `.pipe(run, Effect.map((rows) => new Map(rows.map((row) => [row.inventory_key, BigInt(row.order_id)]))))

  const columns = sql`
    candidate.id, topic, ${sql.literal(says("candidate"))} AS says,
    substring(payload FROM '"idempotent_key":"([0-9a-f-]{36})"') AS idempotent_key, status, attempts, last_error,
    created_at, done_at, reserved_to, lease_token, candidate.batch, shard.shard::int AS shard, shard.owner, traceparent,
    ${stateOf(sql)} AS state
    FROM event AS candidate
    LEFT JOIN outbox_shard AS shard ON candidate.batch IS NOT NULL
      AND shard.shard = hashint8(order_id) & (SELECT count(*)::int - 1 FROM outbox_shard)
  `

  /** The range of ids that were written about this time, by halving: ids rise with time, and have an index. */
  const near = (at: Date) =>
    sql`
    WITH RECURSIVE search AS (
      SELECT min(id) AS low, max(id) AS high FROM event
      UNION ALL
      SELECT CASE WHEN older THEN probe.id ELSE low END, CASE WHEN older THEN high ELSE (low + high) / 2 END
      FROM search, LATERAL (
        SELECT id, created_at < ${at} AS older FROM event WHERE id > (low + high) / 2 ORDER BY id LIMIT 1
      ) AS probe
      WHERE high - low > 1000
    )
    SELECT low - ${margin} AS low, high + ${margin} AS high FROM search ORDER BY search.high - search.low LIMIT 1
  `

  /**
   * The events of an order whose payment has these times. `event` has no index over the orders of `DONE` rows: they are found
   * by the time of their transition. Where ids do not rise with time (a sequence was set back), `whole` reads the table.
   */
  const events = (orderId: bigint, times: ReadonlyArray<Date>) =>
    Effect.gen(function*() {
      const undone = yield* sql<EventFact>`
        SELECT ${columns} WHERE status <> 'DONE' AND order_id = ${orderId}::bigint
      `.pipe(run)
      const done = yield* Effect.forEach(times, (at) =>
        sql<EventFact>`
          SELECT ${columns} JOIN (${near(at)}) AS bounds ON candidate.id BETWEEN bounds.low AND bounds.high
          WHERE status = 'DONE' AND order_id = ${orderId}::bigint
        `.pipe(run))
      return unique([...undone, ...done.flat()])
    })

  /** The same, by reading the whole table. */
  const whole = (orderId: bigint) =>
    sql<EventFact>`SELECT ${columns} WHERE order_id = ${orderId}::bigint`.pipe(
      Postgres.run("2 minutes"),
      Effect.map(unique)
    )

  return { payment, owners, events, whole } as const
})

/** Each event once: CREATED first, then by id. */
const unique = (events: ReadonlyArray<EventFact>): ReadonlyArray<EventFact> =>
  Array.from(new Map(events.map((event) => [event.id, event])).values()).sort((a, b) =>
    Number(a.says !== "CREATED") - Number(b.says !== "CREATED") || (BigInt(a.id) < BigInt(b.id) ? -1 : 1)
  )
