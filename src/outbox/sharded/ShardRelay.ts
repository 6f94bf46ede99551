import { Duration, Effect } from "effect"
import * as Notifications from "../../infra/postgres/PostgresNotifications.js"
import { beside } from "../../infra/runtime/Beside.js"
import type { Part } from "../../infra/runtime/Health.js"
import * as OutboxWake from "../OutboxWake.js"
import type { KeepingOptions } from "./ShardKeeping.js"
import * as ShardKeeping from "./ShardKeeping.js"
import * as ShardSharing from "./ShardSharing.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardWaking from "./ShardWaking.js"
import * as ShardWorkers from "./ShardWorkers.js"

export interface ShardRelayOptions extends ShardOptions, KeepingOptions {
  /** Gets what the relay does and waits for. */
  readonly part: Part
  /** Gets whether this process listens for notifications. */
  readonly listener: Part
  /** How long a stop waits for the batches in hand. */
  readonly drainTimeout: Duration.DurationInput
}

/** Time beyond `drainTimeout` for the statements by which a relay leaves. */
const leaveLimit = Duration.seconds(2)

/**
 * Moves events from the outbox to their topics, each exactly once for a reader of committed records. Never ends by itself.
 *
 * Relays share the shards through the database. Two that both believe to own a shard do no harm: the broker obeys only the
 * last one. On interruption no further batch starts; batches in hand are finished within `drainTimeout`.
 */
export const serve = Effect.fnUntraced(function*(options: ShardRelayOptions) {
  const { wake } = yield* OutboxWake.OutboxWake
  const { listener, part } = options
  const workers = yield* ShardWorkers.make(options, part)
  const keeping = yield* ShardKeeping.make(options, workers, part)

  // also after a failure of one worker: the others finish their batches, and no relay waits for a lease of this one
  const stop = Effect.zipRight(workers.stopAll, keeping.leave).pipe(
    Effect.ignore,
    Effect.interruptible,
    Effect.timeoutOption(Duration.sum(Duration.decode(options.drainTimeout), leaveLimit))
  )
  const work = Effect.all([
    ShardSharing.run(keeping, workers, part),
    ShardWaking.run(workers),
    workers.failure
  ], { concurrency: "unbounded", discard: true })
  // sharing ends with `work`, keeping only after `stop`: a draining worker keeps its shard
  return yield* beside(Effect.ensuring(Effect.zipRight(work, Effect.never), stop), [
    keeping.keep,
    Notifications.listen(OutboxWake.channel, wake, listener)
  ])
}, Effect.scoped)
