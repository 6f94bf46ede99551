import { Effect } from "effect"

/** Wakes one of those who wait for it at each ring. What rings while nobody waits is one ring, and wakes the next. */
export interface Bell {
  readonly ring: () => void
  /** Ends at the next ring. */
  readonly rung: Effect.Effect<void>
  /** Whether somebody waits. */
  readonly awaited: () => boolean
}

/** As a sliding queue for one element would do, whose taker costs several times as much. */
export const make = (): Bell => {
  const waiting = new Set<() => void>()
  let pending = false

  const ring = () => {
    const [first] = waiting
    if (first === undefined) pending = true
    else {
      waiting.delete(first)
      first()
    }
  }

  const rung = Effect.async<void>((resume) => {
    if (pending) {
      pending = false
      return resume(Effect.void)
    }
    const wake = () => resume(Effect.void)
    waiting.add(wake)
    // one that goes when it has just been woken wakes the next
    return Effect.sync(() => waiting.delete(wake) || ring())
  })

  return { ring, rung, awaited: () => waiting.size > 0 }
}
