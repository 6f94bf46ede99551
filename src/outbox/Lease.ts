import { Clock, Duration, Effect, Metric, Schedule } from "effect"
import * as CrashPoint from "../domain/CrashPoint.js"
import type { Claim } from "./Outbox.js"
import { Outbox } from "./Outbox.js"

const lost = Metric.counter("payments_lease_lost_total", {
  description: "Claims of which another worker took events over",
  incremental: true
})

/** How long a claim is ours, by a clock of this process that never jumps. */
export interface Lease {
  /** Asked right before bytes leave: true while the lease runs, was not lost, and nobody asked us to stop. */
  readonly mayStart: () => boolean
}

/**
 * Runs `use` with the lease of a claim, and renews it meanwhile at each half of its time.
 *
 * `since` is a moment (in nanoseconds) before the claim's statement was sent: the database counts from later on, so
 * the lease ends here before it does there, however the two wall clocks differ.
 */
export const hold = Effect.fnUntraced(function*<A, E, R>(
  claim: Claim,
  options: {
    readonly since: bigint
    readonly lease: Duration.DurationInput
    readonly stopping: () => boolean
  },
  use: (lease: Lease) => Effect.Effect<A, E, R>
) {
  const outbox = yield* Outbox
  const clock = yield* Effect.clock
  const length = BigInt(Math.floor(Duration.toMillis(options.lease) * 1e6))
  let until = options.since + length

  const renew = Effect.gen(function*() {
    yield* CrashPoint.pass("relay-renewing")
    const asked = yield* Clock.currentTimeNanos
    const held = yield* outbox.renew(claim)
    until = held ? asked + length : 0n
    if (!held) {
      yield* Metric.increment(lost)
      yield* Effect.logWarning("another worker took over events of this claim")
    }
  }).pipe(
    // the lease simply runs on, and ends in time when the database stays away
    Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("lease was not renewed", error)),
    Effect.schedule(Schedule.spaced(Duration.times(options.lease, 0.5)))
  )

  const mayStart = () => clock.unsafeCurrentTimeNanos() < until && !options.stopping()
  const renewing = yield* Effect.forkDaemon(Effect.interruptible(renew))
  return yield* Effect.ensuring(use({ mayStart }), renewing.interruptAsFork(renewing.id()))
})
