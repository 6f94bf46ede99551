import { SqlClient } from "@effect/sql"
import { Effect, Option } from "effect"
import * as Postgres from "../../infra/postgres/Postgres.js"
import * as Trace from "../../infra/runtime/Trace.js"
import * as EventSpans from "../EventSpans.js"
import { Outbox } from "../Outbox.js"
import type { OutboxEvent } from "../OutboxEvent.js"
import type { Sight } from "../ScanCursor.js"
import * as ScanCursor from "../ScanCursor.js"
import * as Turn from "../Turn.js"
import * as ShardOf from "./ShardOf.js"
import type { OwnedShard } from "./ShardOwners.js"

/** Events that are committed to the broker together, under one number. */
export interface Batch {
  readonly number: bigint
  readonly events: ReadonlyArray<OutboxEvent>
  /** What its claim saw of the shard; undefined when no event waits. */
  readonly sight: Sight | undefined
}

/** A shard as `payments shards` shows it. */
export interface ShardState {
  readonly shard: number
  readonly name: string
  /** Seconds until the lease of its owner ends; null when it is free. */
  readonly owned_for: number | null
  readonly batch: string
  readonly done: string
  /** Events of batches that are not reconciled: the database does not know whether they are on the topic. */
  readonly open: number
}

/** The batches of a shard by the database. */
export interface BatchState {
  /** Number of the last batch that was leased. */
  readonly batch: bigint
  /** Number of the last batch that is `DONE`. */
  readonly done: bigint
  /** Events of batches that are not reconciled. */
  readonly open: ReadonlyArray<Pick<OutboxEvent, "id" | "topic" | "payload"> & { readonly number: bigint }>
  /** When the last batch was leased, in whole milliseconds of the epoch. */
  readonly leasedAt: number
}

/** Batches of the shards: the database's half of delivery `exactly-once`. See docs/exactly-once.md. */
export class ShardBatches extends Effect.Service<ShardBatches>()("payments/ShardBatches", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const outbox = yield* Outbox
    const run = yield* Postgres.runner("15 seconds")
    const { ofNow, shardOf } = ShardOf.make(sql)
    const { isNext } = Turn.make(sql)
    const ofShard = ({ shard, shards }: OwnedShard) => sql`${shardOf(shards)} = ${shard}::int`
    /** Condition on events of batches that are not reconciled, given the row of their shard. */
    const isOpen = (shard: string) =>
      sql.literal(`event.status = 'WAIT' AND event.batch IS NOT NULL AND event.id <= ${shard}.leased_to`)

    /** The batches of a shard; none when another relay owns it. */
    const stateOf = Effect.fn("ShardBatches.stateOf")(function*(owned: OwnedShard) {
      const rows = yield* sql<
        Readonly<Record<"last" | "done" | "topic" | "payload" | "number", string>> & {
          readonly leased_at: number
          readonly id: string | null
        }
      >`
        SELECT shard.batch AS last, shard.done, coalesce(floor(extract(epoch FROM batch_at) * 1000), 0)::float8 AS leased_at,
               event.id, event.topic, event.payload, event.batch AS number
        FROM outbox_shard AS shard
        LEFT JOIN event ON ${ofShard(owned)} AND ${isOpen("shard")}
        WHERE owner = ${owned.token}::uuid
      `.pipe(run)
      return Option.map(Option.fromNullable(rows[0]), ({ done, last, leased_at }): BatchState => ({
        batch: BigInt(last),
        done: BigInt(done),
        leasedAt: leased_at,
        open: rows.flatMap(({ id, number, payload, topic }) =>
          id === null ? [] : [{ id, topic, payload, number: BigInt(number) }]
        )
      }))
    })

    /**
     * Brings the database in line with the broker: batches up to `committed` are `DONE`, the events of later ones wait again.
     * False when another relay owns the shard; then nothing has changed.
     */
    const reconcile = Effect.fn("ShardBatches.reconcile")(function*(owned: OwnedShard, committed: bigint) {
      const mine = yield* sql`
        WITH mine AS MATERIALIZED (
          SELECT shard, leased_to FROM outbox_shard WHERE owner = ${owned.token}::uuid FOR UPDATE
        ), reconciled AS (
          UPDATE outbox_shard SET batch = greatest(outbox_shard.batch, ${committed}), done = ${committed}, leased_to = NULL
          FROM mine WHERE outbox_shard.shard = mine.shard
        ), sent AS (
          UPDATE event SET status = 'DONE', done_at = clock_timestamp(), reserved_to = NULL FROM mine
          WHERE ${ofShard(owned)} AND ${isOpen("mine")} AND event.batch <= ${committed}
        ), freed AS (
          UPDATE event SET batch = NULL FROM mine
          WHERE ${ofShard(owned)} AND ${isOpen("mine")} AND event.batch > ${committed}
        )
        SELECT shard FROM mine
      `.pipe(run)
      return mine.length > 0
    })

    /** Condition on events that no batch has, from an id on. */
    const unleased = (owned: OwnedShard, from: bigint) =>
      sql`${ofShard(owned)} AND status = 'WAIT' AND batch IS NULL AND id >= ${from}::bigint`

    /**
     * Leases up to `limit` events of the shard under the next number, from id `from` on, lowest id first and at most one of an
     * order. A batch without events when nothing is due; none when another relay owns the shard.
     */
    const claim = Effect.fn("ShardBatches.claim")(function*(owned: OwnedShard, limit: number, from = 0n) {
      const recorder = yield* Trace.recording
      type Row = OutboxEvent & { readonly number: string; readonly sight: string | null } & Partial<EventSpans.Past>
      const rows = yield* sql<Row>`
        WITH mine AS MATERIALIZED (
          -- a relay that takes the shard over waits for this, and then finds the batch
          SELECT shard FROM outbox_shard WHERE owner = ${owned.token}::uuid FOR UPDATE
        ), due AS MATERIALIZED (
          SELECT id FROM event AS candidate
          WHERE ${unleased(owned, from)}
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
            AND ${isNext}
            AND EXISTS (SELECT FROM mine)
          ORDER BY id
          LIMIT ${limit}
          FOR UPDATE SKIP LOCKED
        ), numbered AS (
          UPDATE outbox_shard
          SET batch = outbox_shard.batch + 1, batch_at = clock_timestamp(),
              leased_to = greatest(leased_to, (SELECT max(id) FROM due))
          FROM mine WHERE outbox_shard.shard = mine.shard AND EXISTS (SELECT FROM due)
          RETURNING outbox_shard.batch
        ), leased AS (
          UPDATE event SET batch = numbered.batch, lease_token = NULL, reserved_to = NULL FROM numbered
          WHERE event.id = ANY(ARRAY(SELECT id FROM due)) -- no join, as in Outbox.claim
          RETURNING event.id, topic, order_id::text AS key, payload, traceparent,
                    coalesce(topic_generation, 0) AS generation, reason, event.batch AS number${
        recorder === undefined ? sql.literal("") : EventSpans.age(sql)
      }
        )
        SELECT leased.*, (
          SELECT ${sql.literal(ScanCursor.sight)} FROM event
          WHERE ${unleased(owned, from)}
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp() OR lease_token IS NOT NULL)
          ORDER BY id LIMIT 1
        ) AS sight
        FROM mine LEFT JOIN leased ON true ORDER BY leased.id
      `.pipe(run)
      return Option.map(Option.fromNullable(rows[0]), (first): Batch => {
        const events = rows.filter(({ id }) => id !== null)
        return {
          number: BigInt(first.number ?? 0),
          sight: ScanCursor.sightOf(first.sight),
          events: recorder === undefined ? events : EventSpans.withPast(recorder, events)
        }
      })
    })

    /**
     * Marks a batch that is on the topic `DONE`. Needs no token: a committed batch is a fact. Returns the seconds from commit
     * to mark of each event, and whether the shard has more due events from the first one on that its claim saw.
     */
    const mark = Effect.fn("ShardBatches.mark")(function*(owned: OwnedShard, { events, number, sight }: Batch) {
      const [row] = yield* sql<{ readonly waited: ReadonlyArray<number>; readonly more: boolean }>`
        WITH noted AS (
          UPDATE outbox_shard SET done = greatest(done, ${number}), leased_to = CASE WHEN batch > ${number} THEN leased_to END
          WHERE name = ${owned.name}
        ), marked AS (
          UPDATE event SET status = 'DONE', done_at = clock_timestamp()
          WHERE id = ANY(${events.map(({ id }) => id)}::bigint[]) AND batch = ${number} AND ${outbox.stillWaits}
          RETURNING extract(epoch FROM done_at - created_at) AS waited
        )
        -- one value: reading a row for each event costs more than marking them
        SELECT coalesce(json_agg(waited), '[]') AS waited, EXISTS (
          -- also an event that waited for one of these
          SELECT FROM event
          WHERE ${unleased(owned, sight?.oldest ?? 0n)}
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
        ) AS more
        FROM marked
      `.pipe(run)
      return row!
    })

    /** The broker refused the only event of a batch, which is not committed. Returns its new status. */
    const refuse = ({ number }: Batch, event: OutboxEvent, reason: string) =>
      outbox.refuseIf(event, reason, sql`batch = ${number}`)

    const states = sql<ShardState>`
      SELECT shard::int AS shard, name, batch, done,
             CASE WHEN owned_to > clock_timestamp() THEN extract(epoch FROM owned_to - clock_timestamp())::float8 END
               AS owned_for,
             (SELECT count(*)::int FROM event
              WHERE ${ofNow} = outbox_shard.shard AND ${isOpen("outbox_shard")}) AS open
      FROM outbox_shard ORDER BY shard
    `.pipe(run)

    /**
     * Applies an operator's decision on the batches of a shard that are not reconciled: their events are `DONE` (`sent`), or wait
     * again. The owner loses the shard. Returns how many events changed; 0 while a batch is younger than a minute.
     */
    const resolve = Effect.fn("ShardBatches.resolve")(function*(shard: number, sent: boolean) {
      const rows = yield* sql`
        WITH free AS MATERIALIZED (
          UPDATE outbox_shard SET owner = NULL, owned_to = NULL
          WHERE shard = ${shard}::int AND batch_at < clock_timestamp() - interval '1 minute'
          RETURNING leased_to
        )
        UPDATE event SET status = (CASE WHEN ${sent} THEN 'DONE' ELSE 'WAIT' END)::event_status,
                         done_at = CASE WHEN ${sent} THEN clock_timestamp() END,
                         batch = CASE WHEN ${sent} THEN event.batch END
        FROM free
        WHERE ${ofNow} = ${shard}::int AND ${isOpen("free")}
        RETURNING id
      `.pipe(run)
      return rows.length
    })

    return { states, resolve, stateOf, reconcile, claim, mark, refuse } as const
  })
}) {}
