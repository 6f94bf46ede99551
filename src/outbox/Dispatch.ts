import type { Clock } from "effect"
import { randomUUID } from "node:crypto"
import type { Claim } from "./OutboxEvent.js"

/** A writing statement leases its events to the relay of this process with this token: they need no claim. */
export interface DispatchLease {
  readonly token: string
  /** Nanoseconds of the monotonic clock, read before the statement is sent: the lease ends here before it ends there. */
  readonly since: bigint
  /** How many claims the relay had begun by then. */
  readonly looks: number
}

/** Committed events under the lease of the statement that wrote them. At most one of an order. */
export interface Dispatched extends DispatchLease, Claim {}

/**
 * Queue of committed events from the statements that wrote them to the relay of the same process. `notify` runs when the
 * relay has something to take.
 */
export const make = (clock: Clock.Clock, notify: () => void) => {
  let relay: { readonly token: string; readonly room: number } | undefined
  let waiting: Dispatched | undefined
  let looks = 0

  /** The relay starts to take events. It leases no more while `room` events wait for it. */
  const open = (room: number) => {
    relay = { token: randomUUID(), room }
  }

  /** The lease for a statement that is about to be sent. Undefined without a relay, or while it has enough to do. */
  const lease = (): DispatchLease | undefined =>
    relay === undefined || (waiting !== undefined && waiting.events.length >= relay.room)
      ? undefined
      : { token: relay.token, since: clock.unsafeCurrentTimeNanos(), looks }

  /** Adds events after their commit. False when the relay of their lease has stopped: the caller releases them. */
  const dispatch = (dispatched: Dispatched): boolean => {
    if (relay?.token !== dispatched.token) return false
    waiting = waiting === undefined ? dispatched : {
      token: dispatched.token,
      events: waiting.events.concat(dispatched.events),
      since: waiting.since < dispatched.since ? waiting.since : dispatched.since,
      looks: Math.min(waiting.looks, dispatched.looks)
    }
    notify()
    return true
  }

  /** Removes at most `limit` events from the queue. */
  const take = (limit: number): Dispatched | undefined => {
    const all = waiting
    waiting = undefined
    if (all === undefined || all.events.length <= limit) return all
    waiting = { ...all, events: all.events.slice(limit) }
    notify()
    return { ...all, events: all.events.slice(0, limit) }
  }

  /** The relay stops. Returns the events that it has not taken. */
  const close = (): Dispatched | undefined => {
    relay = undefined
    return take(Infinity)
  }

  /** Counts a claim that the relay begins. Returns the count. */
  const look = () => ++looks

  return { open, lease, dispatch, take, close, look, looks: () => looks } as const
}

export type Dispatch = ReturnType<typeof make>
