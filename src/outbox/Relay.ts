import type { Redacted } from "effect"
import { Array as Arr, Clock, Duration, Effect, Fiber, Metric, MetricBoundaries, Schedule } from "effect"
import * as CrashPoint from "../domain/CrashPoint.js"
import * as Notifications from "../infra/PostgresNotifications.js"
import type { Published } from "./EventPublisher.js"
import { EventPublisher } from "./EventPublisher.js"
import * as Lease from "./Lease.js"
import type { Claim } from "./Outbox.js"
import { Outbox } from "./Outbox.js"
import * as OutboxWake from "./OutboxWake.js"

const published = Metric.counter("payments_events_published_total", {
  description: "Events acknowledged by the broker and marked DONE",
  incremental: true
})
const retried = Metric.counter("payments_events_retried_total", {
  description: "Events given back to be sent later, by reason",
  incremental: true
})
const dead = Metric.counter("payments_events_dead_total", {
  description: "Events that the broker refused for good",
  incremental: true
})
const latency = Metric.histogram(
  "payments_publish_latency_seconds",
  MetricBoundaries.fromIterable([0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]),
  "From the commit of an event to the broker's acknowledgement"
)

export interface RelayOptions {
  readonly batchSize: number
  readonly lease: Duration.DurationInput
  readonly pollInterval: Duration.DurationInput
  /** Where processes without a relay announce their commits. */
  readonly notifications: Redacted.Redacted
  /** How long a stop waits for the claim in hand. */
  readonly drainTimeout: Duration.DurationInput
  /** Told after each look at the outbox that worked. */
  readonly onTurn: Effect.Effect<void>
}

/** Topics are made by hand, if they are made at all. */
const missingTopicDelay = Duration.seconds(5)

/** A statement that must not be given up while the database may come back: the token fences it, however late it is. */
const insist = <A, E extends { readonly _tag: "DatabaseUnavailable" }, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(
    Effect.tapError((error) => Effect.logDebug("the outcome is not written yet", error)),
    Effect.retry(Schedule.exponential("50 millis").pipe(Schedule.union(Schedule.spaced("1 second"))))
  )

/** Says which events this worker no longer answers for. */
const dropped = (events: Published["sent"], why: string) =>
  events.length === 0
    ? Effect.void
    : Effect.logWarning(`dropped: ${why}`).pipe(Effect.annotateLogs({ events: events.map((_) => _.id).join(",") }))

/** Writes what became of a claim into the outbox. */
const settle = Effect.fn("Relay.settle")(function*(claim: Claim, outcome: Published, stopping: boolean) {
  const outbox = yield* Outbox
  if (outcome.sent.length > 0) {
    yield* CrashPoint.pass("relay-sent")
    const waited = yield* insist(outbox.markDone(claim, outcome.sent))
    yield* Metric.incrementBy(published, waited.length)
    for (const seconds of waited) yield* Metric.update(latency, seconds)
    if (waited.length < outcome.sent.length) {
      yield* dropped(outcome.sent, "they were sent, and another worker had taken some of them over")
    }
    yield* CrashPoint.pass("relay-marked")
  }
  for (const { event, reason } of outcome.refused) {
    const status = yield* insist(outbox.refuse(claim, event, reason))
    yield* Metric.increment(status === "DEAD" ? dead : Metric.tagged(retried, "reason", "refused"))
    yield* Effect.logError(
      status === "DEAD" ? "an event is dead: its order waits for an operator" : "the broker refused an event"
    ).pipe(Effect.annotateLogs({ event: event.id, orderId: event.key, reason }))
  }
  if (outcome.unsent.length > 0) {
    const released = yield* insist(outbox.release(claim, outcome.unsent, stopping ? 0 : missingTopicDelay))
    if (released < outcome.unsent.length) {
      yield* dropped(outcome.unsent, "they were not sent, and another worker has taken some of them over")
    }
    yield* Metric.incrementBy(Metric.tagged(retried, "reason", "unsent"), outcome.unsent.length)
  }
  // their lease runs out by itself: what may still be on its way to the topic gets a head start before a resend
  yield* Metric.incrementBy(Metric.tagged(retried, "reason", "undecided"), outcome.undecided.length)
  yield* dropped(outcome.undecided, "the broker owed an answer; another worker sends them when their lease has run out")
})

/** Takes one claim through. Answers how many events it had. */
const turn = Effect.fn("Relay.turn", { root: true })(function*(options: RelayOptions, stopping: () => boolean) {
  const outbox = yield* Outbox
  const publisher = yield* EventPublisher
  const since = yield* Clock.currentTimeNanos
  const claim = yield* outbox.claim(options.batchSize)
  yield* options.onTurn
  if (Arr.isNonEmptyReadonlyArray(claim.events)) {
    yield* CrashPoint.pass("relay-claimed")
    const outcome = yield* Lease.hold(
      claim,
      { since, lease: options.lease, stopping },
      ({ mayStart }) => publisher.publish(claim.events, mayStart)
    )
    yield* settle(claim, outcome, stopping())
  }
  return claim.events.length
})

/**
 * Moves events from the outbox to their topics. Never ends by itself.
 *
 * Works without a pause while there is anything due; otherwise it waits for an announcement or the next poll.
 * On interruption no further attempt starts; what is on its way is finished within `drainTimeout`, the rest given back.
 */
export const serve = Effect.fnUntraced(function*(options: RelayOptions) {
  const wake = yield* OutboxWake.OutboxWake
  let stopping = false
  yield* Effect.forkScoped(Notifications.listen(options.notifications, OutboxWake.channel, wake.announce))

  return yield* Effect.gen(function*() {
    const worked = yield* Effect.forkDaemon(turn(options, () => stopping))
    const finish = Effect.suspend(() => {
      stopping = true
      return CrashPoint.pass("relay-stopping").pipe(
        Effect.zipRight(Fiber.await(worked)),
        Effect.interruptible,
        Effect.timeoutOption(options.drainTimeout),
        Effect.zipRight(Fiber.interruptFork(worked))
      )
    })
    const events = yield* Effect.onInterrupt(Fiber.join(worked), () => finish)
    if (events === 0) yield* Effect.raceFirst(wake.announced, Effect.sleep(options.pollInterval))
  }).pipe(Effect.forever)
}, Effect.scoped)
