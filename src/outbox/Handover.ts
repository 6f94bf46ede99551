import type { Clock } from "effect"
import { randomUUID } from "node:crypto"
import type { Claim } from "./OutboxEvent.js"

/** With this, the statement that writes events leases them to the relay of its own process. */
export interface Advance {
  readonly token: string
  /** A moment before the statement, in nanoseconds of a clock that never jumps. */
  readonly since: bigint
  /** How many looks at the table the relay had begun by then. */
  readonly looks: number
}

/** Events that were leased when they were written, and are committed. No two are of one order. */
export interface Handed extends Advance, Claim {}

/**
 * The way of events from the statement that wrote them to the relay of the same process: they are leased when they are
 * written, and need no claim. `ring` is called when there is something to take.
 */
export const make = (clock: Clock.Clock, ring: () => void) => {
  let relay: { readonly token: string; readonly room: number } | undefined
  let waiting: Handed | undefined
  let looks = 0

  /** The relay takes events from now on, and gets no more while so many wait for it. */
  const open = (room: number) => {
    relay = { token: randomUUID(), room }
  }

  /** Asked right before the statement. None when no relay is here, or it has enough to do. */
  const advance = (): Advance | undefined =>
    relay === undefined || (waiting !== undefined && waiting.events.length >= relay.room)
      ? undefined
      : { token: relay.token, since: clock.unsafeCurrentTimeNanos(), looks }

  /** Called after the commit. False when the relay has gone meanwhile: the events are to be given back. */
  const hand = (handed: Handed): boolean => {
    if (relay?.token !== handed.token) return false
    waiting = waiting === undefined ? handed : {
      token: handed.token,
      events: waiting.events.concat(handed.events),
      since: waiting.since < handed.since ? waiting.since : handed.since,
      looks: Math.min(waiting.looks, handed.looks)
    }
    ring()
    return true
  }

  /** What was handed over, at most so many events. */
  const take = (limit: number): Handed | undefined => {
    const all = waiting
    waiting = undefined
    if (all === undefined || all.events.length <= limit) return all
    waiting = { ...all, events: all.events.slice(limit) }
    ring()
    return { ...all, events: all.events.slice(0, limit) }
  }

  /** The relay takes no more. Answers what it has not taken. */
  const close = (): Handed | undefined => {
    relay = undefined
    return take(Infinity)
  }

  /** The relay begins a look at the table. Answers how many it has begun. */
  const look = () => ++looks

  return { open, advance, hand, take, close, look, looks: () => looks } as const
}

export type Handover = ReturnType<typeof make>
