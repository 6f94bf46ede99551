import type { Duration } from "effect"
import { Effect, Schedule } from "effect"
import type { Part } from "../../infra/runtime/Health.js"
import { problemOf } from "../../infra/runtime/Problem.js"
import { BrokerContact } from "../BrokerContact.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardTakeover from "./ShardTakeover.js"

const everySecond = Schedule.spaced("1 second")

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
  const { isLost } = yield* BrokerContact
  const reconcile = Effect.gen(function*() {
    // it would only keep the shards from relays that reach the brokers
    yield* Effect.repeat(isLost, { schedule: everySecond, until: (is) => !is })
    const shards = yield* owners.acquireOrphans
    yield* Effect.forEach(shards, (shard) =>
      ShardTakeover.takeOver(shard, options).pipe(
        Effect.scoped,
        Effect.zipRight(Effect.logInfo("reconciled the batches of a shard without an owner")),
        Effect.annotateLogs({ shard: shard.shard })
      ), { discard: true }).pipe(
        Effect.ensuring(Effect.forEach(shards, owners.letGo, { concurrency: "unbounded", discard: true }))
      )
    options.part.reached(orphans)
  }).pipe(
    Effect.catchTag("ShardLost", () => Effect.void),
    Effect.tapError((error) => Effect.sync(() => options.part.postponed(orphans, problemOf(error, "no_progress")))),
    // the relay is not ready until this succeeds
    Effect.retry(everySecond)
  )
  return yield* Effect.forever(Effect.zipRight(reconcile, Effect.sleep(options.interval)))
})
