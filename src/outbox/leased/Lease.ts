import { Clock, Duration, Effect, FiberSet, Metric } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import { Outbox } from "../Outbox.js"
import type { Claim } from "../OutboxEvent.js"

const lost = Metric.counter("payments_lease_lost_total", {
  description: "Claims of which another worker took events over",
  incremental: true
})

/** The lease of a claim, by the monotonic clock of this process. */
export interface Lease {
  /** Read right before each attempt: true while the lease runs, no worker has taken events over, and the relay does not stop. */
  readonly mayStart: () => boolean
}

/** The metrics of leases. */
export const metrics = [lost]

interface Kept {
  readonly claim: Claim
  /** Nanoseconds of the monotonic clock; 0 when the lease is lost. */
  until: bigint
  renewing: boolean
  /** Sending is over: the result is being recorded. */
  recording: boolean
}

/** Checks of all leases within the time of one. */
const looks = 8

/**
 * Keeps the leases of claims. `keep` renews each at half of its time, for ever: one fiber for all of them, and one for each
 * running renewal.
 */
export const keeper = Effect.fnUntraced(function*(
  options: { readonly lease: Duration.DurationInput; readonly stopping: () => boolean }
) {
  const outbox = yield* Outbox
  const clock = yield* Effect.clock
  const length = BigInt(Math.floor(Duration.toMillis(options.lease) * 1e6))
  const leases = new Set<Kept>()
  const renewals = yield* FiberSet.make<void>()

  const renew = Effect.fnUntraced(function*(one: Kept) {
    yield* CrashPoint.pass("relay-renewing")
    const asked = yield* Clock.currentTimeNanos
    const ours = yield* outbox.renew(one.claim)
    // events that were marked meanwhile have no lease any more, and no other worker took them
    if (!ours && one.recording) return
    one.until = ours ? asked + length : 0n
  }, (effect, one) =>
    effect.pipe(
      // the lease runs on, and ends in time while the database stays away
      Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("cannot renew a lease", error)),
      Effect.ensuring(Effect.sync(() => (one.renewing = false)))
    ))

  // also a lease that has ended: it is valid again while no other worker has taken its events
  const round = Effect.suspend(() => {
    const now = clock.unsafeCurrentTimeNanos()
    const due = [...leases].filter(({ renewing, until }) => !renewing && until > 0n && until - now < length / 2n)
    return Effect.forEach(due, (one) => {
      one.renewing = true
      return FiberSet.run(renewals, renew(one))
    }, { discard: true })
  })
  const rounds = Effect.forever(Effect.zipRight(Effect.sleep(Duration.times(options.lease, 1 / looks)), round))
  const keep = Effect.zipRight(
    Effect.all([rounds, FiberSet.join(renewals)], { concurrency: "unbounded", discard: true }),
    Effect.never
  )

  /**
   * Runs `use` with the lease of a claim, and keeps it while `record` writes the result: with a slow mark, another worker would
   * send the events again. `record` returns whether the claim still had its events. A process that stood still sees the loss
   * only there: it records before it renews. `since` (nanoseconds) was read before the claim's statement was sent. The database counts from a
   * later moment, so the lease ends here before it ends there, whatever the wall clocks say.
   */
  const hold = <A, E, R, R2>(
    claim: Claim,
    since: bigint,
    use: (lease: Lease) => Effect.Effect<A, E, R>,
    record: (result: A) => Effect.Effect<boolean, E, R2>
  ) =>
    Effect.suspend(() => {
      const one: Kept = { claim, until: since + length, renewing: false, recording: false }
      leases.add(one)
      const mayStart = () => clock.unsafeCurrentTimeNanos() < one.until && !options.stopping()
      return use({ mayStart }).pipe(
        Effect.flatMap((result) => {
          one.recording = true
          return record(result)
        }),
        Effect.flatMap((ours) => ours && one.until > 0n ? Effect.void : Metric.increment(lost)),
        Effect.ensuring(Effect.sync(() => leases.delete(one)))
      )
    })

  /** Whether the lease of events that were leased at this time (nanoseconds) has ended. */
  const hasEnded = (since: bigint) => clock.unsafeCurrentTimeNanos() >= since + length

  return { hold, keep, hasEnded } as const
})

export type Keeper = Effect.Effect.Success<ReturnType<typeof keeper>>
