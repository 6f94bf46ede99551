import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as OutboxWake from "../outbox/OutboxWake.js"
import type { By } from "./Operations.js"
import type { Selection } from "./OutboxEvents.js"
import * as OutboxEvents from "./OutboxEvents.js"
import * as Pace from "./Pace.js"
import type { Plan, PlannedEvent, Repaired } from "./Plan.js"
import * as Plans from "./Plan.js"

/** Options of a repair. */
export interface Pacing {
  /** Most changes a second. */
  readonly rate: number
  /** Called after each step with the number of changes so far. */
  readonly onStep: (done: number) => Effect.Effect<void>
}

/** Runs a repair in steps, and adds their results. */
export const inSteps = <E, R>(
  groups: ReadonlyArray<ReadonlyArray<PlannedEvent>>,
  { onStep, rate }: Pacing,
  step: (events: ReadonlyArray<PlannedEvent>) => Effect.Effect<Repaired, E, R>
) => {
  let done = 0
  return Effect.map(
    Pace.steps(groups, rate, (events) => Effect.tap(step(events), ({ changed }) => onStep(done += changed))),
    Plans.sum
  )
}

/**
 * Repairs what the broker has refused. Both deliveries take the repaired events like new ones.
 *
 * Each change is a compare-and-set on the row as the preview saw it, and writes a row of table `operation` in the same
 * statement. So a repair that runs twice at once changes each event once. No repair changes a body or its `idempotent_key`.
 */
export class OutboxRepair extends Effect.Service<OutboxRepair>()("payments/OutboxRepair", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const run = Postgres.run("30 seconds")

    /** An event that no worker has in hand. */
    const idle = sql.literal("lease_token IS NULL AND batch IS NULL")
    /** What `retry` changes: dead events, and refused ones in their back-off. */
    const retried =
      sql`order_id IS NOT NULL AND (status = 'DEAD' OR (attempts > 0 AND ${idle} AND reserved_to > clock_timestamp()))`
    /** What `skip` changes. */
    const skipped = sql`status = 'DEAD'`

    const plan = Effect.fnUntraced(function*(selection: Selection, repairable: Statement.Fragment) {
      const rows = yield* sql<PlannedEvent & { readonly repairable: boolean; readonly readable: boolean }>`
        SELECT id, order_id, ${
        sql.literal(OutboxEvents.says("event"))
      } AS says, status, attempts, last_error, created_at,
               NULL AS done_at, NULL AS payment, false AS old, order_id IS NOT NULL AS readable, coalesce(${repairable}, false) AS repairable
        FROM event
        WHERE status <> 'DONE' AND (status = 'DEAD' OR attempts > 0)
          AND ${OutboxEvents.conditions(sql, "event", selection)}
        ORDER BY event.created_at, event.id LIMIT ${Plans.most + 1}
      `.pipe(run)
      const out = rows.filter((_) => !_.repairable).map(({ id, readable, status }) =>
        [
          {
            reason: !readable
              ? "its payload cannot be read, so it cannot be sent: skip it"
              : status === "WAIT"
              ? "it is not dead: a relay has it in hand, or it is due"
              : "it cannot be changed"
          },
          `event ${id}`
        ] as const
      )
      return {
        events: rows.filter((_) => _.repairable).slice(0, Plans.most),
        leftOut: Plans.leftOut(out),
        more: rows.length > Plans.most
      } satisfies Plan
    })

    const seen = (events: ReadonlyArray<PlannedEvent>) =>
      sql`
        SELECT * FROM unnest(${events.map((_) => _.id)}::bigint[], ${events.map((_) => _.status)}::text[], ${
        events.map((_) => _.attempts)
      }::int[]) AS t (id, seen_status, seen_attempts)
      `

    const row = sql.literal("jsonb_build_object('status', status, 'attempts', attempts, 'last_error', last_error)")

    /** The statement of a step: locks the events that are as the preview saw them, notes and changes them. */
    const step = (
      action: "outbox retry" | "outbox skip",
      { operator, reason, run: command }: By,
      change: Statement.Fragment,
      after: Readonly<Record<string, unknown>>,
      repairable: Statement.Fragment
    ) =>
    (events: ReadonlyArray<PlannedEvent>) =>
      sql<Repaired>`
        WITH seen AS MATERIALIZED (${seen(events)}), locked AS MATERIALIZED (
          SELECT id, order_id, ${row} AS before FROM event
          JOIN seen USING (id)
          WHERE status::text = seen_status AND attempts = seen_attempts AND ${repairable}
          ORDER BY id FOR UPDATE OF event
        ), changed AS (
          UPDATE event SET ${change} WHERE id = ANY(ARRAY(SELECT id FROM locked))
        ), noted AS (
          INSERT INTO operation (run, operator, action, reason, order_id, event_id, before, after)
          SELECT ${command}::uuid, ${operator}, ${action}, ${reason}, order_id, id, before, ${
        JSON.stringify(after)
      }::jsonb
          FROM locked ORDER BY id
        )
        SELECT count(*)::int AS changed, ${events.length} - count(*)::int AS unchanged,
               pg_notify(${OutboxWake.channel}, '') AS notified
        FROM locked
      `.pipe(run, Effect.map(([found]): Repaired => ({ changed: found!.changed, unchanged: found!.unchanged })))

    /** The events that `retry` would change. Fails with `DatabaseUnavailable`. */
    const planRetry = (selection: Selection) => plan(selection, retried)

    /** Makes the events of a plan due now, with no attempt counted, and wakes the relays. */
    const retry = ({ events }: Plan, by: By, pacing: Pacing) =>
      inSteps(
        Pace.single(events),
        pacing,
        step(
          "outbox retry",
          by,
          sql`status = 'WAIT', attempts = 0, reserved_to = NULL`,
          { status: "WAIT", attempts: 0 },
          retried
        )
      )

    /** The events that `skip` would change. Fails with `DatabaseUnavailable`. */
    const planSkip = (selection: Selection) => plan(selection, skipped)

    /** Marks the dead events of a plan `DONE` without sending them: later events of their orders go on. */
    const skip = ({ events }: Plan, by: By, pacing: Pacing) =>
      inSteps(
        Pace.single(events),
        pacing,
        step(
          "outbox skip",
          by,
          sql`status = 'DONE', done_at = clock_timestamp(), reserved_to = NULL`,
          { status: "DONE", sent: false },
          skipped
        )
      )

    return { planRetry, retry, planSkip, skip } as const
  })
}) {}
