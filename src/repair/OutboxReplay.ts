import type { SqlError } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Array as Arr, Duration, Effect, Schedule, Schema } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresFault from "../infra/postgres/PostgresFault.js"
import * as OutboxWake from "../outbox/OutboxWake.js"
import * as Turn from "../outbox/Turn.js"
import type { By } from "./Operations.js"
import type { Selection } from "./OutboxEvents.js"
import * as OutboxEvents from "./OutboxEvents.js"
import type { Pacing } from "./OutboxRepair.js"
import { inSteps } from "./OutboxRepair.js"
import type { Plan, PlannedEvent, Repaired } from "./Plan.js"
import * as Plans from "./Plan.js"

/**
 * How long the readers of topic `payment` remember an event (CONTRACT: Kafka out). Orders appends an event that it does not
 * remember to the history of the order, and the last one is the state of the order.
 */
export const duplicateWindow = Duration.minutes(15)

/** Events that are `DONE`: by id, by order, or by the time at which they were marked. */
export interface DoneSelection extends Selection {
  /** Milliseconds of the epoch. */
  readonly since: number | undefined
  readonly until: number | undefined
}

/** Other transactions write events without a pause: the replay did not get the table for itself. */
export class OutboxBusy extends Schema.TaggedError<OutboxBusy>()("OutboxBusy", {}) {
  override get message() {
    return "the outbox is busy: a transaction holds table event for more than 2 s. Run the command again; it goes on with the rest"
  }
}

interface Row extends PlannedEvent {
  readonly undone: boolean
}

/** Groups events that follow each other by their order. */
const byOrder = <A extends PlannedEvent>(events: ReadonlyArray<A>): ReadonlyArray<Arr.NonEmptyReadonlyArray<A>> =>
  Arr.isNonEmptyReadonlyArray(events) ? Arr.groupWith(events, (a, b) => a.order_id === b.order_id) : []

/** Why the events of an order cannot be announced again; undefined when they can. */
const obstacle = (events: Arr.NonEmptyReadonlyArray<Row>): string | undefined => {
  const [{ payment, undone }] = events
  if (payment === null) return "the order has no payment"
  if (undone) return "an event of the order is not published yet: wait for it, or retry it, and then replay"
  if (payment !== "CREATED" && !events.some(({ says }) => says === payment)) {
    return "the terminal event of the order has no row any more: CREATED alone would send the order back"
  }
}

/**
 * Announces again what is `DONE`, with the same bodies and `idempotent_key`s.
 *
 * The unit is an order: an event is replayed together with the later events of its order, because CREATED after COMPLETED
 * would send the order back at its readers.
 *
 * A relay relies on it that "CREATED is `DONE`" never becomes false while a statement runs (docs/architecture.md). A replay
 * makes it false. So each step locks the table for a few milliseconds: it waits for statements that run, and later ones see
 * its result.
 */
export class OutboxReplay extends Effect.Service<OutboxReplay>()("payments/OutboxReplay", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const seconds = Duration.toSeconds(duplicateWindow)
    const terminal = sql.literal(Turn.terminal("event"))

    const time = (millis: number) => sql`to_timestamp(${millis / 1000}::float8)`

    /** The events that a replay would announce. Reads the whole table. Fails with `DatabaseUnavailable`. */
    const plan = Effect.fnUntraced(function*(selection: DoneSelection) {
      const chosen = sql.and([
        OutboxEvents.conditions(sql, "event", selection),
        ...(selection.since === undefined ? [] : [sql`done_at >= ${time(selection.since)}`]),
        ...(selection.until === undefined ? [] : [sql`done_at < ${time(selection.until)}`])
      ])
      const rows = yield* sql<Row>`
        WITH first AS MATERIALIZED (
          SELECT DISTINCT ON (order_id) order_id, ${terminal} AS terminal, id FROM event
          WHERE status = 'DONE' AND order_id IS NOT NULL AND ${chosen}
          ORDER BY order_id, terminal, id
        )
        SELECT event.id, event.order_id, ${
        sql.literal(OutboxEvents.says("event"))
      } AS says, event.status, attempts, last_error,
               event.created_at, done_at::text AS done_at,
               done_at < clock_timestamp() - make_interval(secs => ${seconds}) AS old,
               payment.status AS payment,
               EXISTS (SELECT FROM event AS other WHERE other.order_id = event.order_id AND other.status <> 'DONE') AS undone
        FROM first JOIN event USING (order_id) LEFT JOIN payment USING (order_id)
        WHERE event.status = 'DONE' AND (${terminal}, event.id) >= (first.terminal, first.id)
        ORDER BY event.order_id, ${terminal}, event.id LIMIT ${Plans.most + 1}
      `.pipe(Postgres.run("5 minutes"))
      const orders = byOrder(rows.slice(0, Plans.most))
      // the last order may be cut
      const whole = rows.length > Plans.most ? orders.slice(0, -1) : orders
      const judged = whole.map((events) => [events, obstacle(events)] as const)
      return {
        events: judged.flatMap(([events, reason]) => reason === undefined ? events : []),
        leftOut: Plans.leftOut(
          judged.flatMap(([[{ order_id }], reason]) => reason === undefined ? [] : [[{ reason }, `order ${order_id}`]])
        ),
        more: rows.length > Plans.most
      } satisfies Plan
    })

    const step = ({ operator, reason, run }: By) => (events: ReadonlyArray<PlannedEvent>) => {
      const change = sql<Repaired>`
        WITH seen AS MATERIALIZED (
          SELECT * FROM unnest(${events.map((_) => _.id)}::bigint[], ${
        events.map((_) => _.done_at)
      }::text[]::timestamptz[])
            AS t (id, done_at)
        ), found AS MATERIALIZED (
          SELECT seen.id, order_id, event.done_at, event.attempts, last_error,
                 coalesce(event.done_at = seen.done_at AND event.status::text = 'DONE', false) AS same
          FROM seen JOIN event ON event.id = seen.id
        ), ready AS MATERIALIZED (
          SELECT order_id FROM found GROUP BY order_id HAVING bool_and(same)
            -- a payment that was settled meanwhile has a terminal event that is not in the plan
            AND (SELECT status FROM payment WHERE payment.order_id = found.order_id) IS NOT DISTINCT FROM (
              SELECT status FROM unnest(${events.map((_) => _.order_id)}::bigint[], ${
        events.map((_) => _.payment)
      }::payment_status[]) AS planned (order_id, status)
              WHERE planned.order_id = found.order_id LIMIT 1
            )
            AND NOT EXISTS (SELECT FROM event WHERE event.order_id = found.order_id AND event.status <> 'DONE')
        ), changed AS (
          UPDATE event SET status = 'WAIT', attempts = 0, done_at = NULL, reserved_to = NULL, lease_token = NULL, batch = NULL
          WHERE id = ANY(ARRAY(SELECT id FROM found JOIN ready USING (order_id)))
        ), noted AS (
          INSERT INTO operation (run, operator, action, reason, order_id, event_id, before, after)
          SELECT ${run}::uuid, ${operator}, 'outbox replay', ${reason}, order_id, id,
                 jsonb_build_object('status', 'DONE', 'done_at', done_at, 'attempts', attempts, 'last_error', last_error),
                 '{"status":"WAIT","attempts":0}'::jsonb
          FROM found JOIN ready USING (order_id) ORDER BY id
        )
        SELECT count(*)::int AS changed, ${events.length} - count(*)::int AS unchanged,
               pg_notify(${OutboxWake.channel}, '') AS notified
        FROM found JOIN ready USING (order_id)
      `
      return sql.withTransaction(
        sql`SET LOCAL lock_timeout = '2s'`.pipe(
          Effect.zipRight(sql`LOCK TABLE event IN SHARE ROW EXCLUSIVE MODE`),
          Effect.zipRight(change)
        )
      ).pipe(
        Effect.map(([found]): Repaired => ({ changed: found!.changed, unchanged: found!.unchanged })),
        Effect.catchIf(
          (error: SqlError.SqlError) => PostgresFault.stateOf(error.cause) === "55P03",
          () => Effect.succeed("busy" as const)
        ),
        Postgres.run("30 seconds"),
        Effect.flatMap((result) => result === "busy" ? Effect.fail(new OutboxBusy()) : Effect.succeed(result)),
        Effect.retry({ while: ({ _tag }) => _tag === "OutboxBusy", times: 3, schedule: Schedule.spaced("500 millis") })
      )
    }

    /**
     * Makes the events of a plan due now, and wakes the relays. The events of an order change together. Fails with
     * `DatabaseUnavailable`, and with `OutboxBusy` while another transaction holds the table; the steps before are done.
     */
    const replay = (plan: Plan, by: By, pacing: Pacing) => inSteps(byOrder(plan.events), pacing, step(by))

    return { plan, replay } as const
  })
}) {}
