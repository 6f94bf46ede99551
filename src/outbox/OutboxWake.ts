import { Context, Effect, Layer } from "effect"
import * as Signal from "../infra/runtime/Signal.js"
import * as Handover from "./Handover.js"

/** The channel on which a process without a relay tells the others that events wait. */
export const channel = "payments_outbox"

/**
 * From those who write events to the relay.
 *
 * An announcement is a hint that saves the relay from waiting for its next poll: it may be lost, and never fails. What
 * is handed over needs no announcement.
 */
export class OutboxWake extends Context.Tag("payments/OutboxWake")<OutboxWake, {
  /** Whether the statement that writes events notifies those who have a relay. */
  readonly notifies: boolean
  /** Call it after the commit of events that are leased to nobody. */
  readonly announce: Effect.Effect<void>
  /** For events that the statement which writes them leases to the relay of this process. */
  readonly handover: Handover.Handover
  /** Ends at the next announcement or hand-over, at once when there was one since the last call. */
  readonly rung: Effect.Effect<void>
  /** Whether there was an announcement since the last call. */
  readonly announced: () => boolean
}>() {
  /** For a process that runs the relay itself. */
  static readonly layerLocal = Layer.effect(
    OutboxWake,
    Effect.gen(function*() {
      const { ring, rung } = Signal.make()
      let announced = false
      return {
        notifies: false,
        announce: Effect.sync(() => {
          announced = true
          ring()
        }),
        handover: Handover.make(yield* Effect.clock, ring),
        rung,
        announced: () => {
          const was = announced
          announced = false
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
      announce: Effect.void,
      handover: Handover.make(clock, () => {}),
      rung: Effect.never,
      announced: () => false
    }))
  )
}
