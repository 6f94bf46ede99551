import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Trace from "../infra/runtime/Trace.js"
import * as Append from "./Append.js"
import type { Sight } from "./leased/ScanCursor.js"
import type { Claim, OutboxEvent } from "./OutboxEvent.js"
import { OutboxWake } from "./OutboxWake.js"
import * as Turn from "./Turn.js"

/** A claim out of the table. */
export interface Claimed extends Claim {
  /** None when none was claimed. */
  readonly sight: Sight | undefined
}

export interface OutboxOptions extends Append.AppendOptions {
  /** Refusals after which an event is `DEAD`. */
  readonly maxAttempts: number
}

const statementLimit = Duration.seconds(15)

/** Events of payments, written with them and published later. The states of an event are in docs/architecture.md. */
export class Outbox extends Effect.Service<Outbox>()("payments/Outbox", {
  effect: Effect.fnUntraced(function*(options: OutboxOptions) {
    const sql = yield* SqlClient.SqlClient
    const run = yield* Postgres.runner(statementLimit)
    const leaseSeconds = Duration.toSeconds(options.lease)
    /**
     * For rows that are found by their id. As text, so that no partial index says that it knows them: with statistics of
     * a moment when nothing waited, reading one of those from end to end looks cheap.
     */
    const stillWaits = sql.literal("status::text = 'WAIT'")
    const { isNext } = Turn.make(sql)

    /** The statement of `claim`. */
    const claimStatement = (token: string, limit: number, from: bigint) =>
      sql<OutboxEvent & { readonly sight: string }>`
        -- MATERIALIZED: under a nested loop the sub-select would run again and lock more than the limit
        WITH due AS MATERIALIZED (
          SELECT id FROM event AS candidate
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
          RETURNING id, topic, order_id::text AS key, payload, traceparent, coalesce(topic_generation, 0) AS generation
        )
        -- UPDATE returns rows in no particular order
        SELECT leased.*, (
          SELECT concat_ws(' ', id, pg_current_xact_id(), pg_snapshot_xmin(pg_current_snapshot())) FROM event
          WHERE status = 'WAIT' AND id >= ${from}::bigint
            -- what was put off for long comes back when everything is looked at
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp() OR lease_token IS NOT NULL)
          ORDER BY id LIMIT 1
        ) AS sight
        FROM leased ORDER BY id
      `

    /**
     * Leases up to `limit` events to the caller, from id `from` on, lowest id first and no more than one of an order: an
     * event waits until all before it of the same order are `DONE` (see Turn.ts).
     */
    const claim = Effect.fnUntraced(function*(limit: number, from = 0n) {
      const token = randomUUID()
      const events = yield* run(claimStatement(token, limit, from))
      return { token, events, sight: sightOf(events[0]?.sight) } satisfies Claimed
    }, Trace.span("Outbox.claim"))

    /** Extends the lease of a claim. False when somebody else took any of it over. */
    const renew = Effect.fnUntraced(function*({ events, token }: Claim) {
      const held = yield* sql`
        UPDATE event SET reserved_to = clock_timestamp() + make_interval(secs => ${leaseSeconds})
        WHERE id = ANY(${ids(events)}::bigint[]) AND lease_token = ${token}::uuid AND ${stillWaits}
        RETURNING id
      `.pipe(run)
      return held.length === events.length
    }, Trace.span("Outbox.renew"))

    /** Published: `DONE`. Answers the seconds that each event has waited since its commit, and only of those still held. */
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

    /** Not sent, and no fault of the events: due again after `delay`, no attempt counted. Answers how many were still held. */
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
     * The broker refused this event itself: due again after a back-off of 1 s doubled by each attempt, at most 5 min,
     * shortened at random by up to a half; `DEAD` when the attempts are used up. Answers the status it has now. `held`
     * is the condition under which the event is still the caller's.
     */
    const refuseHeld = Effect.fnUntraced(
      function*(event: OutboxEvent, error: string, held: Statement.Fragment) {
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
          WHERE id = ${event.id}::bigint AND ${held} AND ${stillWaits}
          RETURNING status
        `.pipe(run)
        return row?.status
      },
      Trace.span("Outbox.refuse")
    )

    /** `refuseHeld`, for an event of a claim. */
    const refuse = ({ token }: Claim, event: OutboxEvent, error: string) =>
      refuseHeld(event, error, sql`lease_token = ${token}::uuid`)

    /** The whole claim is anybody's again. */
    const giveBack = (claim: Claim) => release(claim, claim.events, 0)

    const append = Append.make(sql, yield* OutboxWake, options, giveBack)

    return {
      ...append,
      stillWaits,
      claimStatement,
      claim,
      renew,
      markDone,
      release,
      giveBack,
      refuse,
      refuseHeld
    } as const
  })
}) {}

const sightOf = (seen: string | undefined): Sight | undefined => {
  if (seen === undefined) return undefined
  const [oldest, xid, xmin] = seen.split(" ").map(BigInt) as [bigint, bigint, bigint]
  return { oldest, xid, xmin }
}

const ids = (events: ReadonlyArray<OutboxEvent>) => events.map((_) => _.id)
