import { Duration, Effect } from "effect"
import { randomUUID } from "node:crypto"
import type { Part } from "../../infra/runtime/Health.js"
import * as Signal from "../../infra/runtime/Signal.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardWorkers } from "./ShardWorkers.js"

/** Longest pause between two rounds: so long a shard may wait for a relay that has come, or has left in order. */
const maxPause = Duration.seconds(1)

/** This relay among the `alive` ones: `before` of them have a smaller id. `shards` is how many shards there are. */
export interface Standing {
  readonly alive: number
  readonly before: number
  readonly shards: number
}

export interface KeepingOptions {
  readonly pollInterval: Duration.DurationInput
}

/**
 * Keeps the shards of this process: says in the database that this relay is alive, and renews the leases of its shards. It
 * waits for no worker, so a slow broker costs no lease.
 */
export const make = Effect.fnUntraced(function*(
  options: KeepingOptions,
  workers: ShardWorkers,
  part: Part
) {
  const owners = yield* ShardOwners
  const relay = randomUUID()
  const pause = Duration.min(maxPause, options.pollInterval)
  const oneAtATime = (yield* Effect.makeSemaphore(1)).withPermits(1)
  const kept = Signal.make()
  let standing: Standing | undefined
  let left = false

  const round = Effect.gen(function*() {
    if (left) return
    const before = workers.all()
    const tokens = new Map(before.map((worker) => [worker, worker.owned.token]))
    const answer = yield* part.query(
      "postgres",
      "keeping the shards",
      // a busy worker looks anyway when the batch in hand is sent
      workers.lookFor(
        before.filter(({ due }) => due.awaited()),
        (looks) => owners.keep(relay, before.map(({ owned }) => owned), looks)
      )
    )
    standing = answer
    for (const [worker, token] of tokens) {
      // an idle worker does not find out by itself; a token that changed meanwhile was fresh
      if (worker.owned.token === token && !answer.kept.includes(token)) worker.recheck()
    }
    part.working()
    kept.notify()
  }).pipe(oneAtATime, Effect.catchTag("DatabaseUnavailable", () => Effect.void))

  return {
    /** Keeps, for ever. */
    keep: Effect.forever(Effect.zipRight(round, Effect.sleep(pause))),
    /** Waits for the next round that succeeds. Returns where this relay stands. */
    standing: Effect.map(kept.wait, () => standing!),
    /** Says in the database that this relay has ended. A later round would say that it is alive, so there is none. */
    leave: oneAtATime(Effect.suspend(() => {
      left = true
      return owners.leave(relay)
    }))
  } as const
})

export type ShardKeeping = Effect.Effect.Success<ReturnType<typeof make>>
