import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Postgres from "../../infra/postgres/Postgres.js"
import * as ShardOf from "./ShardOf.js"

/** A shard that this process owns as long as the database has its token. */
export interface OwnedShard {
  readonly shard: number
  /** How many shards there are: with `shard`, which orders are in it. A power of two. */
  readonly shards: number
  /** Transactional id and consumer group. */
  readonly name: string
  /** Changes with each fence. */
  token: string
}

const limit = Duration.seconds(15)

/** A shard, and the event id from which to look for due events. */
export interface Look {
  readonly owned: OwnedShard
  readonly from: bigint
}

const tokensOf = (owned: ReadonlyArray<OwnedShard>) => owned.map(({ token }) => token)

/** Owners of shards, in the database. These are leases only: of two owners at once the broker obeys the last one. */
export class ShardOwners extends Effect.Service<ShardOwners>()("payments/ShardOwners", {
  effect: Effect.fnUntraced(function*(options: { readonly lease: Duration.DurationInput }) {
    const sql = yield* SqlClient.SqlClient
    const run = yield* Postgres.runner(limit)
    const leaseSeconds = Duration.toSeconds(options.lease)
    const { shardOf } = ShardOf.make(sql)
    const leaseEnd = sql.literal(`clock_timestamp() + make_interval(secs => ${leaseSeconds})`)

    /** Tokens of those of these shards that have due events. */
    const dueOf = (looks: ReadonlyArray<Look>) =>
      sql`
        SELECT owner::text FROM outbox_shard
        JOIN unnest(${tokensOf(looks.map(({ owned }) => owned))}::uuid[], ${
        looks.map(({ from }) => String(from))
      }::bigint[])
          AS look (token, first) ON owner = look.token
        WHERE EXISTS (
          SELECT FROM event
          -- the newest shard has the present number; after a change of it the others have no owner
          WHERE ${
        shardOf(looks.at(-1)?.owned.shards ?? 1)
      } = outbox_shard.shard AND status = 'WAIT' AND event.batch IS NULL
            AND id >= look.first AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
          OFFSET 0 -- keeps it one index probe a shard, never a join
        )
      `

    const due = (looks: ReadonlyArray<Look>) =>
      sql<{ readonly tokens: ReadonlyArray<string> }>`SELECT ARRAY(${dueOf(looks)}) AS tokens`.pipe(
        run,
        Effect.map(([row]) => row!.tokens),
        Effect.withTracerEnabled(false)
      )

    /**
     * Records that this relay is alive, and renews the leases of these shards, the newest last. Returns the tokens that are
     * still valid, those of `looks` with due events, and where the relay stands among those that are alive.
     *
     * It waits for no statement of a worker, which may lock the row of its shard for long: a later round renews such a shard,
     * and no other relay can acquire it meanwhile.
     */
    const keep = Effect.fn("ShardOwners.keep")(function*(
      relay: string,
      owned: ReadonlyArray<OwnedShard>,
      looks: ReadonlyArray<Look> = []
    ) {
      const [row] = yield* sql<
        {
          readonly before: number
          readonly alive: number
          readonly shards: number
          readonly kept: ReadonlyArray<string>
          readonly due: ReadonlyArray<string>
        }
      >`
        WITH me AS (
          INSERT INTO outbox_relay (id, alive_to) VALUES (${relay}::uuid, ${leaseEnd})
          ON CONFLICT (id) DO UPDATE SET alive_to = EXCLUDED.alive_to
        ), dead AS (
          DELETE FROM outbox_relay WHERE alive_to < clock_timestamp() AND id <> ${relay}::uuid
        ), free AS MATERIALIZED (
          SELECT shard FROM outbox_shard WHERE owner = ANY(${tokensOf(owned)}::uuid[]) FOR UPDATE SKIP LOCKED
        ), prolonged AS (
          UPDATE outbox_shard SET owned_to = ${leaseEnd} FROM free WHERE outbox_shard.shard = free.shard
        ), others AS (
          SELECT id FROM outbox_relay WHERE alive_to >= clock_timestamp() AND id <> ${relay}::uuid
        )
        SELECT (SELECT count(*)::int FROM others WHERE id < ${relay}::uuid) AS before,
               (SELECT count(*)::int + 1 FROM others) AS alive,
               (SELECT count(*)::int FROM outbox_shard) AS shards,
               ARRAY(SELECT owner::text FROM outbox_shard WHERE owner = ANY(${tokensOf(owned)}::uuid[])) AS kept,
               ARRAY(${dueOf(looks)}) AS due
      `.pipe(run, Effect.withTracerEnabled(false))
      return row!
    })

    /** Records that this relay has ended: the others need not wait until it counts as dead. */
    const leave = (relay: string) => sql`DELETE FROM outbox_relay WHERE id = ${relay}::uuid`.pipe(run, Effect.asVoid)

    const columns = sql.literal(
      "outbox_shard.shard::int AS shard, (SELECT count(*)::int FROM outbox_shard) AS shards, name, owner AS token"
    )

    const acquireWhere = (count: number, condition: Statement.Fragment) =>
      sql<OwnedShard>`
        WITH free AS MATERIALIZED (
          SELECT shard FROM outbox_shard
          WHERE (owner IS NULL OR owned_to <= clock_timestamp()) AND ${condition}
          ORDER BY shard LIMIT ${count} FOR UPDATE SKIP LOCKED
        )
        UPDATE outbox_shard SET owner = gen_random_uuid(), owned_to = ${leaseEnd}
        FROM free WHERE outbox_shard.shard = free.shard
        RETURNING ${columns}
      `.pipe(run)

    /** Acquires up to `count` shards without an owner, or whose owner let the lease end. */
    const acquire = (count: number) => acquireWhere(count, sql`true`)

    /** The same for shards with batches that are not reconciled. */
    const acquireOrphans = acquireWhere(100, sql`leased_to IS NOT NULL`)

    /** Acquires all shards, also from their owners. */
    const seize = sql<OwnedShard>`
      UPDATE outbox_shard SET owner = gen_random_uuid(), owned_to = ${leaseEnd} RETURNING ${columns}
    `.pipe(run)

    /**
     * Replaces these shards, which must be all shards, and owned, fenced and reconciled by the caller. The new ones have new
     * names, and batch numbers above those of the old ones. False when another relay owns one; then nothing has changed.
     */
    const replace = Effect.fn("ShardOwners.replace")(function*(owned: ReadonlyArray<OwnedShard>, count: number) {
      const made = yield* sql`
        WITH mine AS MATERIALIZED (
          SELECT batch FROM outbox_shard WHERE owner = ANY(${tokensOf(owned)}::uuid[]) FOR UPDATE
        ), ended AS (
          SELECT max(batch) AS batch FROM mine HAVING count(*) = (SELECT count(*) FROM outbox_shard)
        ), gone AS (
          DELETE FROM outbox_shard USING ended RETURNING outbox_shard.shard
        ), installation AS (
          SELECT left(md5(gen_random_uuid()::text), 8) AS id, count(*) FROM gone HAVING count(*) > 0
        )
        INSERT INTO outbox_shard (shard, name, batch, done)
        SELECT shard, format('payments-outbox-%s-%s', installation.id, shard), ended.batch, ended.batch
        FROM ended, installation, generate_series(0, ${count}::int - 1) AS shard
        RETURNING shard
      `.pipe(run)
      return made.length > 0
    })

    /** Releases a shard: another relay may acquire it at once. */
    const release = (owned: OwnedShard) =>
      // reads the token when it runs: `refresh` may have changed it since this effect was made
      Effect.suspend(() =>
        run(sql`UPDATE outbox_shard SET owner = NULL, owned_to = NULL WHERE owner = ${owned.token}::uuid`)
      ).pipe(Effect.asVoid)

    /** The same at the end of work: within 2 s, and without a failure, because the lease ends by itself. */
    const letGo = (owned: OwnedShard) =>
      release(owned).pipe(Effect.ignore, Effect.interruptible, Effect.timeoutOption("2 seconds"), Effect.asVoid)

    /**
     * Gives a shard a fresh token. A statement that the process gave up may still run in the database at any time; with the
     * old token it finds nothing. False when another relay owns the shard.
     */
    const refresh = Effect.fn("ShardOwners.refresh")(function*(owned: OwnedShard) {
      const token = randomUUID()
      const mine = yield* sql`
        UPDATE outbox_shard SET owner = ${token}::uuid, owned_to = ${leaseEnd}
        WHERE shard = ${owned.shard}::int AND owner = ${owned.token}::uuid
        RETURNING shard
      `.pipe(run)
      if (mine.length > 0) owned.token = token
      return mine.length > 0
    })

    return { keep, leave, refresh, acquire, acquireOrphans, seize, replace, release, letGo, due } as const
  })
}) {}
