import { Effect } from "effect"
import type { Part } from "../../infra/runtime/Health.js"
import type { ShardKeeping, Standing } from "./ShardKeeping.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardWorkers } from "./ShardWorkers.js"

/** How many shards a relay owns: as even as can be. Every relay computes the same shares from the same database. */
export const share = ({ alive, before, shards }: Standing) =>
  Math.floor(shards / alive) + (before < shards % alive ? 1 : 0)

/** Shares the shards out evenly among the relays, for ever: stops workers above the share, acquires shards below it. */
export const run = Effect.fnUntraced(function*(
  keeping: ShardKeeping,
  workers: ShardWorkers,
  part: Part
) {
  const owners = yield* ShardOwners
  const balance = Effect.gen(function*() {
    const mine = share(yield* keeping.standing)
    const active = workers.all().filter(({ stopping }) => !stopping())
    for (const worker of active.slice(mine)) worker.stop()
    if (active.length >= mine) return
    const acquired = yield* part.query("postgres", "acquiring shards", owners.acquire(mine - active.length))
    yield* Effect.forEach(acquired, workers.start, { discard: true })
  })
  return yield* balance.pipe(
    Effect.catchTag("DatabaseUnavailable", () => Effect.void),
    Effect.forever
  )
})
