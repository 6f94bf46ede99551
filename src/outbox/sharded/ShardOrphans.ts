import type { Duration } from "effect"
import { Effect } from "effect"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardTakeover from "./ShardTakeover.js"

/**
 * Writes down what became of batches that no exactly-once relay goes on with, so that their events can be sent by relays
 * of the other delivery. Never ends by itself.
 */
export const settleOrphans = Effect.fnUntraced(function*(
  options: ShardOptions & { readonly interval: Duration.DurationInput }
) {
  const owners = yield* ShardOwners
  const settle = Effect.gen(function*() {
    for (const shard of yield* owners.acquireOrphans) {
      yield* ShardTakeover.takeOver(shard, options).pipe(
        Effect.scoped,
        Effect.zipRight(owners.release(shard)),
        Effect.zipRight(Effect.logInfo("the batches of a shard that nobody had are settled")),
        Effect.annotateLogs({ shard: shard.shard })
      )
    }
  }).pipe(
    Effect.catchTag("ShardLost", () => Effect.void),
    Effect.catchAll((error) => Effect.logWarning("batches that nobody has are not settled yet", error))
  )
  return yield* Effect.forever(Effect.zipRight(settle, Effect.sleep(options.interval)))
})
