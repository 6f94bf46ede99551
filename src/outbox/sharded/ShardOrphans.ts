import type { Duration } from "effect"
import { Effect } from "effect"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardTakeover from "./ShardTakeover.js"

/**
 * Reconciles batches that stopped exactly-once relays left behind, so that at-least-once relays can send their events. Never
 * ends by itself.
 */
export const reconcileOrphans = Effect.fnUntraced(function*(
  options: ShardOptions & { readonly interval: Duration.DurationInput }
) {
  const owners = yield* ShardOwners
  const reconcile = Effect.gen(function*() {
    for (const shard of yield* owners.acquireOrphans) {
      yield* ShardTakeover.takeOver(shard, options).pipe(
        Effect.scoped,
        Effect.zipRight(owners.release(shard)),
        Effect.zipRight(Effect.logInfo("reconciled the batches of a shard without an owner")),
        Effect.annotateLogs({ shard: shard.shard })
      )
    }
  }).pipe(
    Effect.catchTag("ShardLost", () => Effect.void),
    Effect.catchAll((error) => Effect.logWarning("cannot reconcile the batches of shards without an owner yet", error))
  )
  return yield* Effect.forever(Effect.zipRight(reconcile, Effect.sleep(options.interval)))
})
