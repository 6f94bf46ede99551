import type { Clock } from "effect"
import { Effect } from "effect"

/** What a claim saw of the outbox. */
export interface Sight {
  /** Id of the first event that waits, or waited before the claim: a scan below it finds nothing. */
  readonly oldest: bigint
  /** Transaction id of the claim. */
  readonly xid: bigint
  /** Id of the oldest transaction that was running. */
  readonly xmin: bigint
}

/** A sight as a statement selects it from the first event that waits: its id, and the transactions of now. */
export const sight = "concat_ws(' ', id, pg_current_xact_id(), pg_snapshot_xmin(pg_current_snapshot()))"

/** The sight that a statement selected; undefined when no event waits. */
export const sightOf = (seen: string | null | undefined): Sight | undefined => {
  if (seen === undefined || seen === null) return undefined
  const [oldest, xid, xmin] = seen.split(" ").map(BigInt) as [bigint, bigint, bigint]
  return { oldest, xid, xmin }
}

/** After so many milliseconds a cursor does not wait for older transactions any more. */
const trail = 200
/** Pause in milliseconds between two scans from the beginning; they may take a twentieth of the time. */
const everything = { period: 1_000, share: 20 }

/**
 * Scan cursor: the event id from which a claim scans the table. Times are milliseconds of the monotonic clock.
 *
 * Published events leave dead rows behind, and vacuum cannot remove them while a foreign transaction is open: each scan from
 * the beginning would read all of them. So a claim starts at the oldest waiting event that an earlier claim saw, as soon as
 * every transaction of that moment has ended: later ones write higher ids. It does not wait for a long one. Events of such a
 * transaction, and delayed retries, may lie below the cursor; a scan from the beginning finds them about once a second.
 */
export const make = Effect.map(Effect.clock, (clock: Clock.Clock) => {
  const millis = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
  let seen: ReadonlyArray<{ readonly at: number; readonly xid: bigint; readonly oldest: bigint }> = []
  let last = { at: Number.NEGATIVE_INFINITY, took: 0 }
  let underWay = 0n

  /** The id from which the next claim scans. */
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

  /** Records what a claim saw that started at id `from` and time `since` (nanoseconds); undefined when no event waits. */
  const found = (from: bigint, since: bigint, sight: Sight | undefined) => {
    const now = millis()
    // also without a sight: the dead rows of what was published are read then too
    if (from === 0n) last = { at: now, took: now - Number(since / 1_000_000n) }
    if (sight === undefined) return
    const { oldest, xid, xmin } = sight
    if (xmin > underWay) underWay = xmin
    // an event with a lower id, which came late, moves the cursor back
    seen = [...seen.map((one) => one.oldest > oldest ? { ...one, oldest } : one), { at: now, xid, oldest }]
  }

  /** The next claim scans from the beginning: events below the cursor wait again, or came late. It moves the cursor back to them. */
  const rewind = () => void (last = { at: Number.NEGATIVE_INFINITY, took: 0 })

  /** A claim that started at `from` has failed and saw nothing. */
  const failed = (from: bigint) => {
    if (from === 0n) rewind()
  }

  return { begin, found, failed, rewind } as const
})

export type ScanCursor = Effect.Effect.Success<typeof make>
