import { Clock, Duration, Effect, FiberSet, Metric } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import { Outbox } from "../Outbox.js"
import type { Claim } from "../OutboxEvent.js"

const lost = Metric.counter("payments_lease_lost_total", {
  description: "Claims of which another worker took events over",
  incremental: true
})

/** How long a claim is ours, by a clock of this process that never jumps. */
export interface Lease {
  /** Asked right before bytes leave: true while the lease runs, was not lost, and nobody asked us to stop. */
  readonly mayStart: () => boolean
}

interface Held {
  readonly claim: Claim
  /** Nanoseconds; 0 when it is lost. */
  until: bigint
  renewing: boolean
  /** Nothing is started any more: what became of it is being written down. */
  settling: boolean
}

/** Looks at the leases in hand so often while one runs. */
const looks = 8

/**
 * Holds the leases of claims. `keep` renews each when half of its time is over, for ever: one fiber for all of them, and
 * one for each renewal that is under way.
 */
export const keeper = Effect.fnUntraced(function*(
  options: { readonly lease: Duration.DurationInput; readonly stopping: () => boolean }
) {
  const outbox = yield* Outbox
  const clock = yield* Effect.clock
  const length = BigInt(Math.floor(Duration.toMillis(options.lease) * 1e6))
  const held = new Set<Held>()
  const renewals = yield* FiberSet.make<void>()

  const renew = Effect.fnUntraced(function*(one: Held) {
    yield* CrashPoint.pass("relay-renewing")
    const asked = yield* Clock.currentTimeNanos
    const ours = yield* outbox.renew(one.claim)
    // what is marked meanwhile was not taken over
    if (!ours && one.settling) return
    one.until = ours ? asked + length : 0n
    if (!ours && held.has(one)) {
      yield* Metric.increment(lost)
      yield* Effect.logWarning("another worker took over events of this claim")
    }
  }, (effect, one) =>
    effect.pipe(
      // the lease simply runs on, and ends in time when the database stays away
      Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("lease was not renewed", error)),
      Effect.ensuring(Effect.sync(() => (one.renewing = false)))
    ))

  // one that has run out too: as long as nobody has taken it, it is ours again
  const round = Effect.suspend(() => {
    const now = clock.unsafeCurrentTimeNanos()
    const due = [...held].filter(({ renewing, until }) => !renewing && until > 0n && until - now < length / 2n)
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
   * Runs `use` with the lease of a claim, and holds it on while `settle` writes down what became of it: a mark that is
   * slow to arrive must not leave to others what was sent. `since` is a moment (in nanoseconds) before the claim's
   * statement was sent: the database counts from later on, so the lease ends here before it does there, however the two
   * wall clocks differ.
   */
  const hold = <A, B, E, R, R2>(
    claim: Claim,
    since: bigint,
    use: (lease: Lease) => Effect.Effect<A, E, R>,
    settle: (outcome: A) => Effect.Effect<B, E, R2>
  ) =>
    Effect.suspend(() => {
      const one: Held = { claim, until: since + length, renewing: false, settling: false }
      held.add(one)
      const mayStart = () => clock.unsafeCurrentTimeNanos() < one.until && !options.stopping()
      return use({ mayStart }).pipe(
        Effect.flatMap((outcome) => {
          one.settling = true
          return settle(outcome)
        }),
        Effect.ensuring(Effect.sync(() => held.delete(one)))
      )
    })

  return { hold, keep } as const
})

export type Keeper = Effect.Effect.Success<ReturnType<typeof keeper>>
