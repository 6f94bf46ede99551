import { Effect } from "effect"
import type * as Progress from "../Progress.js"
import type { ShardKeeping, Standing } from "./ShardKeeping.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardWorkers } from "./ShardWorkers.js"

/** How many shards a relay owns: as even as can be. Every relay computes the same shares from the same database. */
export const share = ({ alive, before, shards }: Standing) =>
  Math.floor(shards / alive) + (before < shards % alive ? 1 : 0)

/** Shares the shards out evenly among the relays, for ever: stops workers above the share, acquires shards below it. */
export const run = Effect.fnUntraced(function*(
  report: (problem: string | undefined) => Effect.Effect<void>,
  keeping: ShardKeeping,
  workers: ShardWorkers,
  progress: Progress.Progress
) {
  const owners = yield* ShardOwners
  const balance = Effect.gen(function*() {
    const mine = share(yield* keeping.standing)
    const active = workers.all().filter(({ stopping }) => !stopping())
    for (const worker of active.slice(mine)) worker.stop()
    if (active.length >= mine) return
    const acquired = yield* progress.query("acquiring shards", owners.acquire(mine - active.length))
    yield* Effect.forEach(acquired, workers.start, { discard: true })
  })
  return yield* balance.pipe(
    Effect.catchTag("DatabaseUnavailable", (error) => report(error.message)),
    Effect.forever
  )
})
