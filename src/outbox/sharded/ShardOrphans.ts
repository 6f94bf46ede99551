import type { Duration } from "effect"
import { Effect, Schedule } from "effect"
import type { Part } from "../../infra/runtime/Health.js"
import { problemOf } from "../../infra/runtime/Problem.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardTakeover from "./ShardTakeover.js"

/** What the relay does here, for operators. */
const orphans = "reconciling the batches of shards without an owner"

/**
 * Reconciles batches that stopped exactly-once relays left behind, so that at-least-once relays can send their events. Reports
 * to the part of the relay what it waits for. Never ends by itself.
 */
export const reconcileOrphans = Effect.fnUntraced(function*(
  options: ShardOptions & { readonly interval: Duration.DurationInput; readonly part: Part }
) {
  const owners = yield* ShardOwners
  const reconcile = Effect.gen(function*() {
    for (const shard of yield* owners.acquireOrphans) {
      yield* ShardTakeover.takeOver(shard, options).pipe(
        Effect.scoped,
        // also after a failure: another relay may reach the brokers
        Effect.ensuring(Effect.suspend(() => Effect.ignore(owners.release(shard)))),
        Effect.zipRight(Effect.logInfo("reconciled the batches of a shard without an owner")),
        Effect.annotateLogs({ shard: shard.shard })
      )
    }
    options.part.reached(orphans)
  }).pipe(
    Effect.catchTag("ShardLost", () => Effect.void),
    Effect.tapError((error) => Effect.sync(() => options.part.postponed(orphans, problemOf(error, "no_progress")))),
    // the relay is not ready until this succeeds
    Effect.retry(Schedule.spaced("1 second"))
  )
  return yield* Effect.forever(Effect.zipRight(reconcile, Effect.sleep(options.interval)))
})
