import { Duration, Effect, Metric, Schedule } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import type { DatabaseUnavailable } from "../../infra/postgres/Postgres.js"
import { retry } from "../../infra/runtime/Retry.js"
import * as Trace from "../../infra/runtime/Trace.js"
import { Outbox } from "../Outbox.js"
import type { Claim } from "../OutboxEvent.js"
import { Refusals } from "../Refusals.js"
import * as RelayMetrics from "../RelayMetrics.js"
import type { Published } from "./EventPublisher.js"

/** An operator has to create a missing topic, or start a broker that may lead a partition. */
const missingTopicDelay = Duration.seconds(5)

const pauses = Schedule.exponential("50 millis").pipe(Schedule.union(Schedule.spaced("250 millis")))

/** Repeats a statement until the database answers: its token fences it, however late it is. */
const untilAnswered = <A, R>(effect: Effect.Effect<A, DatabaseUnavailable, R>, onFailure?: () => void) =>
  effect.pipe(
    Effect.tapError((error) => {
      onFailure?.()
      return Effect.logDebug("cannot record the result of a claim yet", error)
    }),
    retry<DatabaseUnavailable>(pauses)
  )

/** Logs which events this worker drops. */
const dropped = (events: Published["sent"], why: string) =>
  events.length === 0
    ? Effect.void
    : Effect.logWarning(`dropped: ${why}`).pipe(
      Effect.annotateLogs({
        count: events.length,
        examples: events.slice(0, 3).map(({ id, key }) => ({ event_id: id, order_id: key }))
      })
    )

/**
 * Records the result of a claim in the outbox, and repeats that while the database is away. The lease of undecided events runs
 * on. Unsent events are due at once when the relay is `stopping`, else after a pause. Returns false when another worker has
 * taken events over.
 */
export const record = Effect.fnUntraced(function*(claim: Claim, published: Published, stopping: boolean) {
  const outbox = yield* Outbox
  const refusals = yield* Refusals
  let ours = true
  let failed = false
  if (published.sent.length > 0) {
    yield* CrashPoint.pass("relay-sent")
    const waited = yield* untilAnswered(outbox.markDone(claim, published.sent), () => (failed = true))
    RelayMetrics.done(waited)
    if (waited.length < published.sent.length) {
      // a failed attempt may have marked them
      ours = failed
      yield* dropped(
        published.sent,
        "they were sent; another worker took some over, or a statement whose answer was lost marked them"
      )
    }
    yield* CrashPoint.pass("relay-marked")
  }
  for (const { event, reason } of published.refused) {
    refusals.add(event, yield* untilAnswered(outbox.refuse(claim, event, reason)), reason)
  }
  if (published.unsent.length > 0) {
    const released = yield* untilAnswered(outbox.release(claim, published.unsent, stopping ? 0 : missingTopicDelay))
    if (released < published.unsent.length) {
      ours = false
      yield* dropped(published.unsent, "they were not sent, and another worker took some of them over")
    }
    yield* Metric.incrementBy(RelayMetrics.retriedAs.unsent, published.unsent.length)
  }
  // their lease runs on: records that may still be on their way to the topic arrive before a resend
  RelayMetrics.retriedAs.undecided.unsafeUpdate(published.undecided.length, [])
  yield* dropped(
    published.undecided,
    "the broker has not answered; another worker sends them when their lease has ended"
  )
  return ours
}, Trace.span("PublishResults.record"))
