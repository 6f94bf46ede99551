import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Postgres from "../../infra/postgres/Postgres.js"
import * as ShardOf from "./ShardOf.js"

/** A shard that is ours as long as its token is the one in the database. */
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

const tokensOf = (owned: ReadonlyArray<OwnedShard>) => owned.map(({ token }) => token)

/** Who relays which orders, by the database. Leases only: what two owners at once may do, the broker decides. */
export class ShardOwners extends Effect.Service<ShardOwners>()("payments/ShardOwners", {
  effect: Effect.fnUntraced(function*(options: { readonly lease: Duration.DurationInput }) {
    const sql = yield* SqlClient.SqlClient
    const run = yield* Postgres.runner(limit)
    const leaseSeconds = Duration.toSeconds(options.lease)
    const { shardOf } = ShardOf.make(sql)
    const leaseEnd = sql.literal(`clock_timestamp() + make_interval(secs => ${leaseSeconds})`)

    /** Tokens of those of these shards in which something is due. */
    const dueOf = (owned: ReadonlyArray<OwnedShard>) =>
      sql`
        SELECT owner::text FROM outbox_shard
        WHERE owner = ANY(${tokensOf(owned)}::uuid[]) AND EXISTS (
          SELECT FROM event
          -- the newest of them tells how many there are; where they have changed, the others are nobody's
          WHERE ${shardOf(owned.at(-1)?.shards ?? 1)} = outbox_shard.shard AND status = 'WAIT' AND event.batch IS NULL
            AND (reserved_to IS NULL OR reserved_to <= clock_timestamp())
        )
      `

    const due = (owned: ReadonlyArray<OwnedShard>) =>
      sql<{ readonly tokens: ReadonlyArray<string> }>`SELECT ARRAY(${dueOf(owned)}) AS tokens`.pipe(
        run,
        Effect.map(([row]) => row!.tokens),
        Effect.withTracerEnabled(false)
      )

    /**
     * Says that this relay is alive, and keeps these shards, the newest last. Answers the tokens that are still good, those
     * in whose shards something is due, and where the relay stands among those that are alive.
     *
     * Waits for no statement of a worker, which may hold the row of its shard for long: a shard that is passed over is kept
     * by a later round, and meanwhile nobody else can take it.
     */
    const keep = Effect.fn("ShardOwners.keep")(function*(relay: string, owned: ReadonlyArray<OwnedShard>) {
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
               ARRAY(${dueOf(owned)}) AS due
      `.pipe(run, Effect.withTracerEnabled(false))
      return row!
    })

    /** This relay ends: the others need not wait for it. */
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

    /** Takes up to `count` shards that nobody owns, or whose owner has not kept them. */
    const acquire = (count: number) => acquireWhere(count, sql`true`)

    /** The same, of shards with batches that nobody goes on with. */
    const acquireOrphans = acquireWhere(100, sql`leased_to IS NOT NULL`)

    /** Takes all shards, whoever has them. */
    const seize = sql<OwnedShard>`
      UPDATE outbox_shard SET owner = gen_random_uuid(), owned_to = ${leaseEnd} RETURNING ${columns}
    `.pipe(run)

    /**
     * Other shards instead of these, which must be all there are and ours, fenced and reconciled. They have new names, and
     * their numbers rise from where the old ones ended. False when one is another's; then nothing has changed.
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

    /** Gives a shard back: another relay may take it at once. */
    const release = (owned: OwnedShard) =>
      // the token of the moment in which it runs, not of that in which it was written down what is to be done at the end
      Effect.suspend(() =>
        run(sql`UPDATE outbox_shard SET owner = NULL, owned_to = NULL WHERE owner = ${owned.token}::uuid`)
      ).pipe(Effect.asVoid)

    /**
     * Gives a shard that is ours a fresh token. A statement that was given up may still run in the database, whenever it
     * likes: under the token that it knows it finds nothing then. False when the shard is another's.
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

    return { keep, leave, refresh, acquire, acquireOrphans, seize, replace, release, due } as const
  })
}) {}
