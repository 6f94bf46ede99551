import type { Clock } from "effect"
import { Effect } from "effect"

/** Transactions that are this much older than their neighbours may still be under way. */
const trail = 200
/** At least this long after the last look at everything comes the next; and it may take a twentieth of the time. */
const everything = { period: 1_000, share: 20 }

/**
 * From which event id on a claim looks for work. Milliseconds throughout.
 *
 * What was published leaves dead rows behind, and while some foreign transaction is open nobody may clear them away:
 * looking from the beginning would read all of them for each claim. So a claim begins where, a moment ago, the oldest
 * waiting event was. Ids are given before the commit: one that was committed late, or given back, may lie below, and is
 * found by a look at everything from time to time.
 */
export const make = Effect.map(Effect.clock, (clock: Clock.Clock) => {
  const millis = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
  let seen: ReadonlyArray<{ readonly at: number; readonly oldest: string }> = []
  let last = { at: Number.NEGATIVE_INFINITY, took: 0 }

  /** Where to begin now. */
  const begin = () => {
    const now = millis()
    if (now - last.at >= Math.max(everything.period, everything.share * last.took)) {
      last = { at: now, took: 0 }
      return "0"
    }
    const old = seen.filter(({ at }) => now - at >= trail)
    const floor = old.at(-1)
    if (floor === undefined) return "0"
    seen = [floor, ...seen.slice(old.length)]
    return floor.oldest
  }

  /** A claim that began at `from` when it was `since` has found this to be the oldest waiting event. */
  const found = (from: string, since: bigint, oldest: string) => {
    const now = millis()
    if (from === "0") last = { at: now, took: now - Number(since / 1_000_000n) }
    seen = [...seen, { at: now, oldest }]
  }

  return { begin, found } as const
})

export type Floor = Effect.Effect.Success<typeof make>
