import { Duration, Effect, Metric, Schedule } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import type { DatabaseUnavailable } from "../../infra/postgres/Postgres.js"
import { retry } from "../../infra/runtime/Retry.js"
import * as Trace from "../../infra/runtime/Trace.js"
import { Outbox } from "../Outbox.js"
import type { Claim } from "../OutboxEvent.js"
import * as RelayMetrics from "../RelayMetrics.js"
import type { Published } from "./EventPublisher.js"

/** Topics are made by hand, if they are made at all. */
const missingTopicDelay = Duration.seconds(5)

const persistence = Schedule.exponential("50 millis").pipe(Schedule.union(Schedule.spaced("250 millis")))

/** A statement that must not be given up while the database may come back: the token fences it, however late it is. */
const insist = <A, R>(effect: Effect.Effect<A, DatabaseUnavailable, R>) =>
  effect.pipe(
    Effect.tapError((error) => Effect.logDebug("the outcome is not written yet", error)),
    retry<DatabaseUnavailable>(persistence)
  )

/** Says which events this worker no longer answers for. */
const dropped = (events: Published["sent"], why: string) =>
  events.length === 0
    ? Effect.void
    : Effect.logWarning(`dropped: ${why}`).pipe(Effect.annotateLogs({ events: events.map((_) => _.id).join(",") }))

/**
 * Writes into the outbox what became of a claim, and does not give that up while the database is away. What is undecided is
 * left to its lease. Of what was never attempted `stopping` says whether it is due at once.
 */
export const write = Effect.fnUntraced(function*(claim: Claim, outcome: Published, stopping: boolean) {
  const outbox = yield* Outbox
  if (outcome.sent.length > 0) {
    yield* CrashPoint.pass("relay-sent")
    const waited = yield* insist(outbox.markDone(claim, outcome.sent))
    RelayMetrics.done(waited)
    if (waited.length < outcome.sent.length) {
      yield* dropped(
        outcome.sent,
        "they were sent; some were taken over, or marked by a statement whose answer was lost"
      )
    }
    yield* CrashPoint.pass("relay-marked")
  }
  for (const { event, reason } of outcome.refused) {
    const status = yield* insist(outbox.refuse(claim, event, reason))
    yield* Metric.increment(
      status === "DEAD" ? RelayMetrics.dead : RelayMetrics.retriedAs.refused
    )
    yield* Effect.logError(
      status === "DEAD" ? "an event is dead: its order waits for an operator" : "the broker refused an event"
    ).pipe(Effect.annotateLogs({ event: event.id, orderId: event.key, reason }))
  }
  if (outcome.unsent.length > 0) {
    const released = yield* insist(outbox.release(claim, outcome.unsent, stopping ? 0 : missingTopicDelay))
    if (released < outcome.unsent.length) {
      yield* dropped(outcome.unsent, "they were not sent, and another worker has taken some of them over")
    }
    yield* Metric.incrementBy(RelayMetrics.retriedAs.unsent, outcome.unsent.length)
  }
  // their lease runs out by itself: what may still be on its way to the topic gets a head start before a resend
  RelayMetrics.retriedAs.undecided.unsafeUpdate(outcome.undecided.length, [])
  yield* dropped(outcome.undecided, "the broker owed an answer; another worker sends them when their lease has run out")
}, Trace.span("Outcome.write"))
