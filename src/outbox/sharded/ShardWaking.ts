import { Effect } from "effect"
import { OutboxWake } from "../OutboxWake.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardWorkers } from "./ShardWorkers.js"

/** One query for the shards with due events costs less than waking more than two idle workers. */
const maxUnasked = 2

/** Passes wake-ups of the outbox on to the workers whose shards may have due events, for ever. */
export const run = Effect.fnUntraced(function*(workers: ShardWorkers) {
  const owners = yield* ShardOwners
  const { woken } = yield* OutboxWake
  const wakeWorkers = Effect.gen(function*() {
    yield* woken
    const all = workers.all()
    const idle = all.filter(({ due }) => due.awaited())
    const asked = new Set(idle.length > maxUnasked ? idle : [])
    // a busy worker looks anyway when the batch in hand is sent
    for (const worker of all) if (!asked.has(worker)) worker.due.notify()
    if (asked.size > 0) {
      yield* workers.lookFor([...asked], (looks) => Effect.map(owners.due(looks), (due) => ({ due })))
    }
  })
  return yield* wakeWorkers.pipe(
    Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("cannot look for due events", error)),
    Effect.forever
  )
})
