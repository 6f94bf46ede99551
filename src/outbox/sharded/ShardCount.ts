import { SqlClient } from "@effect/sql"
import { Effect, Schema } from "effect"
import * as Postgres from "../../infra/postgres/Postgres.js"
import * as ShardOf from "./ShardOf.js"
import type { OwnedShard } from "./ShardOwners.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardTakeover from "./ShardTakeover.js"

/** Numbers of shards that there may be: each is twice the one before. */
export const counts = [1, 2, 4, 8, 16, 32, 64] as const

/** A shard went to somebody else while all of them were to be brought to rest. Nothing has changed; try again. */
export class ShardsBusy extends Schema.TaggedError<ShardsBusy>()("ShardsBusy", {}) {
  override get message() {
    return "a shard was taken over meanwhile, and nothing has changed: try again, with a longer OUTBOX_LEASE if need be"
  }
}

/** An index of a large outbox takes its time; nobody waits for it. */
const run = Postgres.run("1 hour")

/**
 * Changes how many shards there are, also while relays are at work. Answers how many there were.
 *
 * It takes over every shard as a relay does, so that nothing of any of them can be committed any more or is leased, and
 * then puts new ones in the place of all of them, in one statement that needs all their tokens. Relays find theirs gone,
 * and take their share of the new ones.
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
  // what the new shards need, before there are any: no writer waits for it
  yield* run(Effect.zipRight(
    drop(count),
    sql`CREATE INDEX CONCURRENTLY ${index(count)} ON event (${
      ShardOf.make(sql).shardOf(count)
    }, id) WHERE status = 'WAIT'`
  ))
  const takeOver = (owned: OwnedShard) =>
    Effect.scoped(ShardTakeover.takeOver(owned, options)).pipe(
      // a relay that was about to take it over may fence us; it finds its token gone, and we begin anew
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
