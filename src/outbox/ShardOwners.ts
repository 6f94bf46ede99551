import type { Statement } from "@effect/sql"
import { SqlClient } from "@effect/sql"
import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import * as Postgres from "../infra/Postgres.js"

/** A shard that is ours as long as its token is the one in the database. */
export interface OwnedShard {
  readonly shard: number
  /** Transactional id and consumer group. */
  readonly name: string
  /** Changes with each fence. */
  token: string
}

const limit = Duration.seconds(15)

/** Who relays which orders, by the database. Leases only: what two owners at once may do, the broker decides. */
export class ShardOwners extends Effect.Service<ShardOwners>()("payments/ShardOwners", {
  effect: Effect.fnUntraced(function*(options: { readonly lease: Duration.DurationInput }) {
    const sql = yield* SqlClient.SqlClient
    const run = Postgres.run(limit)
    const leaseSeconds = Duration.toSeconds(options.lease)
    const leaseEnd = sql.literal(`clock_timestamp() + make_interval(secs => ${leaseSeconds})`)

    /**
     * Says that this relay is alive, and keeps the shards of these tokens. Answers the tokens that are still good, and
     * where the relay stands among those that are alive.
     */
    const keep = Effect.fn("ShardOwners.keep")(function*(relay: string, tokens: ReadonlyArray<string>) {
      const [row] = yield* sql<
        {
          readonly before: number
          readonly alive: number
          readonly kept: ReadonlyArray<string>
          readonly shards: number
        }
      >`
        WITH me AS (
          INSERT INTO outbox_relay (id, alive_to) VALUES (${relay}::uuid, ${leaseEnd})
          ON CONFLICT (id) DO UPDATE SET alive_to = EXCLUDED.alive_to
        ), dead AS (
          DELETE FROM outbox_relay WHERE alive_to < clock_timestamp() AND id <> ${relay}::uuid
        ), kept AS (
          UPDATE outbox_shard SET owned_to = ${leaseEnd} WHERE owner = ANY(${tokens}::uuid[]) RETURNING owner
        ), others AS (
          SELECT id FROM outbox_relay WHERE alive_to >= clock_timestamp() AND id <> ${relay}::uuid
        )
        SELECT (SELECT count(*)::int FROM others WHERE id < ${relay}::uuid) AS before,
               (SELECT count(*)::int + 1 FROM others) AS alive,
               (SELECT count(*)::int FROM outbox_shard) AS shards,
               ARRAY(SELECT owner::text FROM kept) AS kept
      `.pipe(run, Effect.withTracerEnabled(false))
      return row!
    })

    /** This relay ends: the others need not wait for it. */
    const leave = (relay: string) => sql`DELETE FROM outbox_relay WHERE id = ${relay}::uuid`.pipe(run, Effect.asVoid)

    const acquireWhere = (count: number, condition: Statement.Fragment) =>
      sql<OwnedShard>`
        WITH free AS MATERIALIZED (
          SELECT shard FROM outbox_shard
          WHERE (owner IS NULL OR owned_to <= clock_timestamp()) AND ${condition}
          ORDER BY shard LIMIT ${count} FOR UPDATE SKIP LOCKED
        )
        UPDATE outbox_shard SET owner = gen_random_uuid(), owned_to = ${leaseEnd}
        FROM free WHERE outbox_shard.shard = free.shard
        RETURNING outbox_shard.shard::int AS shard, name, owner AS token
      `.pipe(run)

    /** Takes up to `count` shards that nobody owns, or whose owner has not kept them. */
    const acquire = (count: number) => acquireWhere(count, sql`true`)

    /** The same, of shards with batches that nobody goes on with. */
    const acquireOrphans = acquireWhere(
      100,
      sql`EXISTS (
        SELECT FROM event
        WHERE (hashint8(order_id) & 7) = outbox_shard.shard AND status = 'WAIT' AND batch IS NOT NULL
      )`
    )

    /** Gives a shard back: another relay may take it at once. */
    const release = (owned: OwnedShard) =>
      // the token of the moment in which it runs, not of that in which it was written down what is to be done at the end
      Effect.suspend(() =>
        sql`UPDATE outbox_shard SET owner = NULL, owned_to = NULL WHERE owner = ${owned.token}::uuid`
      ).pipe(run, Effect.asVoid)

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

    return { keep, leave, refresh, acquire, acquireOrphans, release } as const
  })
}) {}
