import type { Clock } from "effect"
import { Effect } from "effect"

/** What a claim has seen of the outbox. */
export interface Sight {
  /** The first event that waits, or waited until now: looking before it finds nothing. */
  readonly oldest: bigint
  /** Its transaction. */
  readonly xid: bigint
  /** The first transaction that was under way. */
  readonly xmin: bigint
}

/** Transactions that are this much older than their neighbours are not waited for. */
const trail = 200
/** At least this long after the last look at everything comes the next; and it may take a twentieth of the time. */
const everything = { period: 1_000, share: 20 }

/**
 * From which event id on a claim looks for work. Milliseconds throughout.
 *
 * What was published leaves dead rows behind, and while some foreign transaction is open nobody may clear them away:
 * looking from the beginning would read all of them for each claim. So a claim begins where another has seen the oldest
 * waiting event, as soon as no transaction is under way that was so then: those which begin later write higher ids. One
 * that writes for long is not waited for; what it commits, and what was put off, may lie below, and is found by a look
 * at everything from time to time.
 */
export const make = Effect.map(Effect.clock, (clock: Clock.Clock) => {
  const millis = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
  let seen: ReadonlyArray<{ readonly at: number; readonly xid: bigint; readonly oldest: bigint }> = []
  let last = { at: Number.NEGATIVE_INFINITY, took: 0 }
  let underWay = 0n

  /** Where to begin now. */
  const begin = () => {
    const now = millis()
    if (now - last.at >= Math.max(everything.period, everything.share * last.took)) {
      last = { at: now, took: 0 }
      return 0n
    }
    const usable = seen.findLastIndex(({ at, xid }) => xid < underWay || now - at >= trail)
    if (usable === -1) return 0n
    seen = seen.slice(usable)
    return seen[0]!.oldest
  }

  /** A claim that began at `from` when it was `since` has seen this. */
  const found = (from: bigint, since: bigint, { oldest, xid, xmin }: Sight) => {
    const now = millis()
    if (from === 0n) last = { at: now, took: now - Number(since / 1_000_000n) }
    if (xmin > underWay) underWay = xmin
    // what came late is no longer passed over
    seen = [...seen.map((one) => one.oldest > oldest ? { ...one, oldest } : one), { at: now, xid, oldest }]
  }

  /** A claim that began at `from` has failed: it has seen nothing. */
  const failed = (from: bigint) => {
    if (from === 0n) last = { at: Number.NEGATIVE_INFINITY, took: 0 }
  }

  return { begin, found, failed } as const
})

export type ScanCursor = Effect.Effect.Success<typeof make>
