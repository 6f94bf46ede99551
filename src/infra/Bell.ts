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
  const waiting: Array<() => void> = []
  let pending = false

  const ring = () => {
    const first = waiting.shift()
    if (first === undefined) pending = true
    else first()
  }

  const rung = Effect.async<void>((resume) => {
    if (pending) {
      pending = false
      return resume(Effect.void)
    }
    const wake = () => resume(Effect.void)
    waiting.push(wake)
    return Effect.sync(() => {
      const place = waiting.indexOf(wake)
      if (place >= 0) waiting.splice(place, 1)
      // one that goes when it has just been woken wakes the next
      else ring()
    })
  })

  return { ring, rung, awaited: () => waiting.length > 0 }
}
