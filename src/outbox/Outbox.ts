import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Dispatched, DispatchLease } from "./Dispatch.js"
import * as EventSpans from "./EventSpans.js"
import type { Claim, OutboxEvent, Reason } from "./OutboxEvent.js"
import * as OutboxWake from "./OutboxWake.js"
import type { Sight } from "./ScanCursor.js"
import * as ScanCursor from "./ScanCursor.js"
import * as Turn from "./Turn.js"

/** An event to write. */
export interface NewEvent {
  readonly orderId: bigint
  readonly payload: string
  /** W3C trace context that the event belongs to. */
  readonly traceparent: string | null
}

/** What a statement with `append` wrote: the columns of `appended`. */
export interface Appended {
  /**
   * `<id> <order_id> <topic_generation>` of each event that the statement leased, joined by commas; null without any. The
   * generation may be empty. One value, because the driver takes longer to read a row for each event.
   */
  readonly leased: string | null
  /** Whether it wrote events that it did not lease. */
  readonly waiting: boolean
}

/** A claim out of the table. */
export interface Claimed extends Claim {
  /** Undefined when the claim is empty. */
  readonly sight: Sight | undefined
}

export interface OutboxOptions {
  /** Topic of new events. */
  readonly topic: string
  /** How long the lease of a claim, or of a writing statement, lasts. */
  readonly lease: Duration.DurationInput
  /** Refusals after which an event is `DEAD`. */
  readonly maxAttempts: number
}

const statementLimit = Duration.seconds(15)

/**
 * The outbox, table `event`: writes events in the statement that changes their payments, dispatches them after the commit, and
 * leases them to a relay. docs/architecture.md shows the states of an event.
 */
export class Outbox extends Effect.Service<Outbox>()("payments/Outbox", {
  effect: Effect.fnUntraced(function*(options: OutboxOptions) {
    const sql = yield* SqlClient.SqlClient
    const { dispatch: queue, notifies, wake } = yield* OutboxWake.OutboxWake
    const run = yield* Postgres.runner(statementLimit)
    const leaseSeconds = Duration.toSeconds(options.lease)
    /**
     * For rows that are found by their id. As text, so that the planner matches no partial index: statistics of a moment
     * without waiting events make a scan of such an index look cheap.
     */
    const stillWaits = sql.literal("status::text = 'WAIT'")
    const { isNext } = Turn.make(sql)
    const none = sql.literal("")
    const sight = sql.literal(ScanCursor.sight)

    /**
     * The part `appended` of a statement: writes an event for each of `rows` (order_id, payload, traceparent,
     * topic_generation), in their order. The statement must hold the lock of the order's payment row, so that only one
     * transaction at a time writes events of an order.
     *
     * `token` is that of a `DispatchLease`: the statement then leases each event whose earlier events of the order are all
     * `DONE`. A value null leases none. Neither does undefined, which makes a shorter statement: 1,000 payments with their
     * events take about 5 % less time. Only that statement writes a `reason`.
     */
    const append = (rows: Statement.Fragment, token: unknown, reason?: Reason) => {
      const [column, value] = reason === undefined ? [sql``, sql``] : [sql`, reason`, sql`, ${reason}::text`]
      return token === undefined
        ? sql`
        INSERT INTO event (topic, order_id, payload, traceparent, topic_generation${column})
        SELECT ${options.topic}::text, order_id, payload, traceparent, topic_generation${value} FROM (${rows}) AS written
        RETURNING id, order_id, topic_generation, false AS leased
      `
        : sql`
        INSERT INTO event (topic, order_id, payload, traceparent, topic_generation, lease_token, reserved_to)
        SELECT ${options.topic}::text, order_id, payload, traceparent, topic_generation, lease.token, lease.ends
        FROM (${rows}) AS written
        LEFT JOIN LATERAL (
          SELECT ${token}::uuid AS token, clock_timestamp() + make_interval(secs => ${leaseSeconds}) AS ends
          WHERE ${token}::uuid IS NOT NULL AND NOT EXISTS (
            SELECT FROM event AS earlier WHERE earlier.order_id = written.order_id AND earlier.status <> 'DONE'
          )
        ) AS lease ON true
        RETURNING id, order_id, topic_generation, lease_token IS NOT NULL AS leased
      `
    }

    /** Generation of the topic now, for a payment that is created. */
    const topicGeneration =
      sql`(SELECT nullif(max(generation), 0) FROM outbox_topic WHERE topic = ${options.topic}::text)`

    const waiting = sql`EXISTS (SELECT FROM appended WHERE NOT leased)`

    /** A commit with a notification fails while the server's queue of them is full, because a listener does not read. */
    const notified = sql`
    CASE WHEN ${waiting} AND pg_notification_queue_usage() < 0.5 THEN pg_notify(${OutboxWake.channel}, '') END
  `

    /** The columns of `Appended`, for a statement with `append`. */
    const appended = sql`
    (SELECT string_agg(concat(id, ' ', order_id, ' ', topic_generation), ',') FROM appended WHERE leased) AS leased,
    ${waiting} AS waiting${notifies ? sql`, ${notified} AS notified` : sql``}
  `

    const eventsOf = (leased: string, written: ReadonlyArray<NewEvent>, now?: bigint): ReadonlyArray<OutboxEvent> => {
      const byOrder = new Map(written.map((event) => [String(event.orderId), event]))
      return leased.split(",").map((text) => {
        const [id, key, generation] = text.split(" ") as [string, string, string]
        const { payload, traceparent } = byOrder.get(key)!
        const event = { id, topic: options.topic, key, payload, traceparent, generation: Number(generation) }
        return now === undefined ? event : { ...event, waited: { since: now, attempt: undefined } }
      })
    }

    /**
     * The step after the commit of a statement with `append`: dispatches the events that it leased to the relay of this
     * process, and wakes the relay for the others. `written` are the events that the statement was to write.
     */
    const dispatch = (
      lease: DispatchLease | undefined,
      written: ReadonlyArray<NewEvent>,
      { leased, waiting }: Appended,
      recorder?: Trace.Recorder
    ): Effect.Effect<void> => {
      if (leased === null) return waiting ? wake : Effect.void
      const dispatched: Dispatched = { ...lease!, events: eventsOf(leased, written, recorder?.now()) }
      const rest = waiting ? wake : Effect.void
      // the relay stopped meanwhile; where the release fails, the lease ends by itself
      return queue.dispatch(dispatched) ? rest : Effect.zipRight(Effect.ignoreLogged(releaseAll(dispatched)), rest)
    }

    /**
     * Begins the spans of events that a statement is about to write. `committed` is the step after its commit: `dispatch`, and
     * the end of the spans of the events that it has written.
     */
    const creating = <E extends NewEvent>(recorder: Trace.Recorder | undefined, asked: ReadonlyArray<E>) => {
      const { events, written } = EventSpans.create(recorder, options.topic, asked)
      type IsWritten = (event: E, place: number) => boolean
      const committed = (lease: DispatchLease | undefined, appended: Appended, isWritten: IsWritten) => {
        written(isWritten)
        return dispatch(lease, events, appended, recorder)
      }
      return { events, committed } as const
    }

    /** The statement of `claim`. With a collector it also reads how each event has waited. */
    const claimStatement = (token: string, limit: number, from: bigint, traced = false) =>
      sql<OutboxEvent & { readonly sight: string } & Partial<EventSpans.Past>>`
        -- MATERIALIZED: under a nested loop the sub-select would run again and lock more than the limit
        WITH due AS MATERIALIZED (
          SELECT id${traced ? sql`, lease_token AS attempt` : none} FROM event AS candidate
          WHERE status = 'WAIT' AND id >= ${from}::bigint
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
            -- what an exactly-once relay has leased is decided by the broker, and by no clock
            AND batch IS NULL
            AND ${isNext}
          ORDER BY id
          LIMIT ${limit}
          FOR UPDATE SKIP LOCKED
        ), leased AS (
          UPDATE event
          SET lease_token = ${token}::uuid,
              reserved_to = clock_timestamp() + make_interval(secs => ${leaseSeconds})
          -- an array, and no join: how many are due the planner cannot know
          WHERE id = ANY(ARRAY(SELECT id FROM due))
          RETURNING id, topic, order_id::text AS key, payload, traceparent, coalesce(topic_generation, 0) AS generation,
                    reason${traced ? EventSpans.age(sql) : none}
        )
        -- UPDATE returns rows in no particular order
        SELECT leased.*, (
          SELECT ${sight} FROM event
          WHERE status = 'WAIT' AND id >= ${from}::bigint
            -- a scan from the beginning finds events that were put off for long
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp() OR lease_token IS NOT NULL)
          ORDER BY id LIMIT 1
        ) AS sight${traced ? sql`, due.attempt` : none}
        FROM leased${traced ? sql` JOIN due USING (id)` : none} ORDER BY id
      `

    /**
     * Leases up to `limit` events to the caller, from id `from` on, lowest id first and no more than one of an order: an
     * event waits until all before it of the same order are `DONE` (see Turn.ts).
     */
    const claim = Effect.fnUntraced(function*(limit: number, from = 0n) {
      const token = randomUUID()
      const recorder = yield* Trace.recording
      const rows = yield* run(claimStatement(token, limit, from, recorder !== undefined))
      const events = recorder === undefined ? rows : EventSpans.withPast(recorder, rows)
      return { token, events, sight: ScanCursor.sightOf(rows[0]?.sight) } satisfies Claimed
    }, Trace.span("Outbox.claim"))

    /** Extends the lease of a claim. False when another worker took any of its events over. */
    const renew = Effect.fnUntraced(function*({ events, token }: Claim) {
      const renewed = yield* sql`
        UPDATE event SET reserved_to = clock_timestamp() + make_interval(secs => ${leaseSeconds})
        WHERE id = ANY(${ids(events)}::bigint[]) AND lease_token = ${token}::uuid AND ${stillWaits}
        RETURNING id
      `.pipe(run)
      return renewed.length === events.length
    }, Trace.span("Outbox.renew"))

    /** Marks published events `DONE`. Returns the seconds from commit to mark of each event that the claim still leased. */
    const markDone = Effect.fnUntraced(function*({ token }: Claim, events: ReadonlyArray<OutboxEvent>) {
      const [done] = yield* sql<{ readonly waited: ReadonlyArray<number> }>`
        WITH done AS (
          UPDATE event SET status = 'DONE', done_at = clock_timestamp(), reserved_to = NULL, lease_token = NULL
          WHERE id = ANY(${ids(events)}::bigint[]) AND lease_token = ${token}::uuid AND ${stillWaits}
          RETURNING extract(epoch FROM done_at - created_at)::float8 AS waited
        )
        SELECT coalesce(array_agg(waited), '{}') AS waited FROM done
      `.pipe(run)
      return done!.waited
    }, Trace.span("Outbox.markDone"))

    /** Ends the lease of unsent events: due after `delay`, no attempt counted. Returns how many the claim still leased. */
    const release = Effect.fnUntraced(
      function*({ token }: Claim, events: ReadonlyArray<OutboxEvent>, delay: Duration.DurationInput) {
        const released = yield* sql`
          UPDATE event
          SET reserved_to = clock_timestamp() + make_interval(secs => ${Duration.toSeconds(delay)}), lease_token = NULL
          WHERE id = ANY(${ids(events)}::bigint[]) AND lease_token = ${token}::uuid AND ${stillWaits}
          RETURNING id
        `.pipe(run)
        return released.length
      },
      Trace.span("Outbox.release")
    )

    /**
     * The broker refused this event for its content: due again after a back-off of 1 s doubled by each attempt, at most 5
     * min, shortened at random by up to a half; `DEAD` after `maxAttempts`. Returns the new status; undefined when
     * `stillOurs`, the condition under which the caller may change the row, does not hold.
     */
    const refuseIf = Effect.fnUntraced(
      function*(event: OutboxEvent, error: string, stillOurs: Statement.Fragment) {
        const [row] = yield* sql<{ readonly status: "WAIT" | "DEAD" }>`
          UPDATE event
          SET attempts = attempts + 1,
              last_error = ${error},
              status = (CASE WHEN attempts + 1 >= ${options.maxAttempts} THEN 'DEAD' ELSE 'WAIT' END)::event_status,
              -- the exponent is bounded: a power of attempts alone overflows an interval
              reserved_to = clock_timestamp()
                + make_interval(secs => least(300, 2 ^ least(attempts, 16)) * (1 - random() / 2)),
              lease_token = NULL,
              batch = NULL
          WHERE id = ${event.id}::bigint AND ${stillOurs} AND ${stillWaits}
          RETURNING status
        `.pipe(run)
        return row?.status
      },
      Trace.span("Outbox.refuse")
    )

    /** `refuseIf`, for an event of a claim. */
    const refuse = ({ token }: Claim, event: OutboxEvent, error: string) =>
      refuseIf(event, error, sql`lease_token = ${token}::uuid`)

    /** Ends the lease of a whole claim: any relay may claim its events at once. */
    const releaseAll = (claim: Claim) => release(claim, claim.events, 0)

    return {
      /** The lease for a statement with `append` that is about to be sent; undefined when no relay here takes its events. */
      lease: queue.lease,
      creating,
      append,
      topicGeneration,
      appended,
      dispatch,
      stillWaits,
      claimStatement,
      claim,
      renew,
      markDone,
      release,
      releaseAll,
      refuse,
      refuseIf
    } as const
  })
}) {}

const ids = (events: ReadonlyArray<OutboxEvent>) => events.map((_) => _.id)
