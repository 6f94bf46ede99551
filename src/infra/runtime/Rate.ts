import type { Clock } from "effect"

/** A bucket of calls: filled at the rate, to the calls of one second at most. */
interface Bucket {
  calls: number
  /** Time of `calls`, in milliseconds. */
  at: number
}

/** Most peers that are remembered: some hundred bytes each. */
const most = 10_000

/**
 * Limits the calls or requests of each peer. `take` counts a call; it returns 0, or the milliseconds after which the peer may call again.
 * A peer that has not called for a second is forgotten when room is needed, which changes nothing: its bucket is full.
 */
export const make = (perSecond: number, clock: Clock.Clock) => {
  const buckets = new Map<string, Bucket>()
  const makeRoom = (now: number) => {
    for (const [peer, { at }] of buckets) if (now - at >= 1_000) buckets.delete(peer)
    // ten thousand peers in one second: the first of them begins anew
    if (buckets.size >= most) buckets.delete(buckets.keys().next().value!)
  }
  return (peer: string): number => {
    const now = clock.unsafeCurrentTimeMillis()
    let bucket = buckets.get(peer)
    if (bucket === undefined) {
      if (buckets.size >= most) makeRoom(now)
      buckets.set(peer, bucket = { calls: perSecond, at: now })
    } else {
      bucket.calls = Math.min(perSecond, bucket.calls + Math.max(0, now - bucket.at) * perSecond / 1_000)
      bucket.at = now
    }
    if (bucket.calls < 1) return Math.ceil((1 - bucket.calls) * 1_000 / perSecond)
    bucket.calls--
    return 0
  }
}
