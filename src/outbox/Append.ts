import type { SqlClient, Statement } from "@effect/sql"
import { Duration, Effect } from "effect"
import type { DatabaseUnavailable } from "../infra/postgres/Postgres.js"
import type { Advance, Handed } from "./Handover.js"
import type { Claim } from "./OutboxEvent.js"
import * as OutboxWake from "./OutboxWake.js"

/** What an event says, and the trace that it belongs to. */
export interface Announcement {
  readonly payload: string
  readonly traceparent: string | null
}

/** What a statement with `append` answers of its events. */
export interface Written {
  /**
   * `<id> <order_id> <topic_generation>` of those that it has leased in advance, with commas between; null when there are
   * none. The generation may be empty.
   */
  readonly leased: string | null
  /** Whether there are others. */
  readonly waiting: boolean
}

export interface AppendOptions {
  /** Topic of the events. */
  readonly topic: string
  /** How long the relay of this process holds what is handed over to it. */
  readonly lease: Duration.DurationInput
}

/** How events are written: in the statement that changes what they tell of. `giveBack` frees what the relay cannot take any more. */
export const make = (
  sql: SqlClient.SqlClient,
  { announce, handover, notifies }: OutboxWake.OutboxWake["Type"],
  options: AppendOptions,
  giveBack: (claim: Claim) => Effect.Effect<unknown, DatabaseUnavailable>
) => {
  const leaseSeconds = Duration.toSeconds(options.lease)

  /**
   * The part `appended` of a statement: writes an event for each of `rows` (order_id, payload, traceparent,
   * topic_generation), in their order. The statement must hold the lock of the order's payment row, so that only one
   * transaction at a time writes events of an order.
   * With an advance the event is leased at once, unless an earlier one of its order has to go first.
   */
  const append = (rows: Statement.Fragment, advance: { readonly token: unknown } | undefined) =>
    advance === undefined
      ? sql`
        INSERT INTO event (topic, order_id, payload, traceparent, topic_generation)
        SELECT ${options.topic}::text, order_id, payload, traceparent, topic_generation FROM (${rows}) AS written
        RETURNING id, order_id, topic_generation, false AS leased
      `
      : sql`
        INSERT INTO event (topic, order_id, payload, traceparent, topic_generation, lease_token, reserved_to)
        SELECT ${options.topic}::text, order_id, payload, traceparent, topic_generation, lease.token, lease.ends
        FROM (${rows}) AS written
        LEFT JOIN LATERAL (
          SELECT ${advance.token}::uuid AS token, clock_timestamp() + make_interval(secs => ${leaseSeconds}) AS ends
          WHERE NOT EXISTS (
            SELECT FROM event AS earlier WHERE earlier.order_id = written.order_id AND earlier.status <> 'DONE'
          )
        ) AS lease ON true
        RETURNING id, order_id, topic_generation, lease_token IS NOT NULL AS leased
      `

  /** The generation of the topic now, for a payment that is created. */
  const generation = sql`(SELECT nullif(max(generation), 0) FROM outbox_topic WHERE topic = ${options.topic}::text)`

  const waiting = sql`EXISTS (SELECT FROM appended WHERE NOT leased)`

  /** Where the queue of notifications fills up, because somebody does not read them, a commit with one would fail. */
  const notified = sql`
    CASE WHEN ${waiting} AND pg_notification_queue_usage() < 0.5 THEN pg_notify(${OutboxWake.channel}, '') END
  `

  /** The columns of `Written`. */
  const written = sql`
    (SELECT string_agg(concat(id, ' ', order_id, ' ', topic_generation), ',') FROM appended WHERE leased) AS leased,
    ${waiting} AS waiting${notifies ? sql`, ${notified} AS notified` : sql``}
  `

  /**
   * Runs a statement with `append` and `written`, tells the relay of its events, and answers its only row. `announcements`
   * are those of the events that it may write, by the order.
   */
  const write = <Row extends Written, E>(
    announcements: ReadonlyMap<bigint, Announcement>,
    statement: (advance: Advance | undefined) => Effect.Effect<ReadonlyArray<Row>, E>
  ): Effect.Effect<Row, E> => {
    const handed = (leased: string, advance: Advance): Handed => ({
      ...advance,
      events: leased.split(",").map((pair) => {
        const [id, key, generation] = pair.split(" ") as [string, string, string]
        const { payload, traceparent } = announcements.get(BigInt(key))!
        return { id, topic: options.topic, key, payload, traceparent, generation: Number(generation) }
      })
    })
    return Effect.suspend(() => {
      const advance = handover.advance()
      return Effect.flatMap(statement(advance), ([row]) => {
        const answer = row!.waiting ? Effect.as(announce, row!) : Effect.succeed(row!)
        if (row!.leased === null) return answer
        const events = handed(row!.leased, advance!)
        // if to give them back fails too, the lease runs out
        return handover.hand(events) ? answer : Effect.zipRight(Effect.ignoreLogged(giveBack(events)), answer)
      })
    })
  }

  return { append, generation, written, write } as const
}
