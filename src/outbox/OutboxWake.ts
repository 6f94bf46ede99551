import { Context, Effect, Layer } from "effect"
import * as Signal from "../infra/runtime/Signal.js"
import * as Dispatch from "./Dispatch.js"

/** PostgreSQL notification channel on which a process without a relay wakes the relays of other processes. */
export const channel = "payments_outbox"

/**
 * From the writers of events to the relay.
 *
 * A wake-up is a hint that saves the relay from waiting for its next poll: it may be lost, and never fails. Dispatched
 * events need none.
 */
export class OutboxWake extends Context.Tag("payments/OutboxWake")<OutboxWake, {
  /** Whether the writing statement itself notifies the processes that run a relay. */
  readonly notifies: boolean
  /** Wakes the relay of this process. For events that are committed without a lease. */
  readonly wake: Effect.Effect<void>
  /** Queue of events that their writing statement leased to the relay of this process. */
  readonly dispatch: Dispatch.Dispatch
  /** Waits for the next wake-up or dispatch; returns at once when one is pending. */
  readonly woken: Effect.Effect<void>
  /** Whether `wake` ran since the last call. */
  readonly wakeRequested: () => boolean
}>() {
  /** For a process that runs the relay itself. */
  static readonly layerLocal = Layer.effect(
    OutboxWake,
    Effect.gen(function*() {
      const signal = Signal.make()
      let requested = false
      return {
        notifies: false,
        wake: Effect.sync(() => {
          requested = true
          signal.notify()
        }),
        dispatch: Dispatch.make(yield* Effect.clock, signal.notify),
        woken: signal.wait,
        wakeRequested: () => {
          const was = requested
          requested = false
          return was
        }
      }
    })
  )

  /** For a process without a relay. */
  static readonly layerNotify = Layer.effect(
    OutboxWake,
    Effect.map(Effect.clock, (clock) => ({
      notifies: true,
      wake: Effect.void,
      dispatch: Dispatch.make(clock, () => {}),
      woken: Effect.never,
      wakeRequested: () => false
    }))
  )
}
