import { SqlClient } from "@effect/sql"
import { Effect, Schema } from "effect"
import * as Postgres from "../../infra/postgres/Postgres.js"
import * as ShardOf from "./ShardOf.js"
import type { OwnedShard } from "./ShardOwners.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardTakeover from "./ShardTakeover.js"

/** Allowed numbers of shards: powers of two. */
export const counts = [1, 2, 4, 8, 16, 32, 64] as const

/** Another relay took a shard over while all were brought to rest. Nothing has changed; the caller may try again. */
export class ShardsBusy extends Schema.TaggedError<ShardsBusy>()("ShardsBusy", {}) {
  override get message() {
    return "a shard was taken over meanwhile, and nothing has changed: try again, with a longer OUTBOX_LEASE if need be"
  }
}

/** The index of a large outbox takes long, and blocks no writer. */
const run = Postgres.run("1 hour")

/**
 * Changes the number of shards, also while relays run. Returns the number before.
 *
 * It takes over every shard as a relay does: then no batch of any shard is leased, and no earlier producer can commit. One
 * statement, which needs the tokens of all shards, replaces them by new ones. Relays find that their shards are gone, and
 * acquire their share of the new ones.
 */
export const change = Effect.fn("ShardCount.change")(function*(count: number, options: ShardOptions) {
  const sql = yield* SqlClient.SqlClient
  const owners = yield* ShardOwners
  const index = (shards: number) => sql`${sql(`event_waiting_of_${shards}_shards`)}`
  const drop = (shards: number) => sql`DROP INDEX CONCURRENTLY IF EXISTS ${index(shards)}`
  const release = (all: ReadonlyArray<OwnedShard>) =>
    Effect.forEach(all, (owned) => Effect.ignore(owners.release(owned)), { concurrency: 4 })

  const [now] = yield* run(sql<{ readonly shards: number }>`SELECT count(*)::int AS shards FROM outbox_shard`)
  if (now!.shards === count) return count
  // the index of the new shards, before they exist: no writer waits for it
  yield* run(Effect.zipRight(
    drop(count),
    sql`CREATE INDEX CONCURRENTLY ${index(count)} ON event (${
      ShardOf.make(sql).shardOf(count)
    }, id) WHERE status = 'WAIT'`
  ))
  const takeOver = (owned: OwnedShard) =>
    Effect.scoped(ShardTakeover.takeOver(owned, options)).pipe(
      // a relay in the middle of its takeover may fence this producer; it then finds its token gone, and this one tries again
      Effect.retry({ while: (error) => error._tag === "TransactionFailed" && !error.tooLong, times: 5 })
    )
  const all = yield* owners.seize
  yield* Effect.forEach(all, takeOver, { concurrency: 4, discard: true }).pipe(
    Effect.catchTag("ShardLost", () => new ShardsBusy()),
    Effect.zipRight(Effect.filterOrFail(owners.replace(all, count), (replaced) => replaced, () => new ShardsBusy())),
    Effect.onError(() => release(all))
  )
  yield* Effect.forEach(counts.filter((other) => other !== count), (other) => run(drop(other)), { discard: true })
  return now!.shards
})
