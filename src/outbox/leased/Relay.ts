import type { Duration } from "effect"
import { Array as Arr, Clock, Effect } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import * as Notifications from "../../infra/postgres/PostgresNotifications.js"
import { beside } from "../../infra/runtime/Beside.js"
import type { Part } from "../../infra/runtime/Health.js"
import * as Trace from "../../infra/runtime/Trace.js"
import type { Dispatched } from "../Dispatch.js"
import * as Drain from "../Drain.js"
import * as EventSpans from "../EventSpans.js"
import { Outbox } from "../Outbox.js"
import type { Claim } from "../OutboxEvent.js"
import * as OutboxWake from "../OutboxWake.js"
import * as ScanCursor from "../ScanCursor.js"
import type { Outages, Published, Publisher } from "./EventPublisher.js"
import { EventPublisher } from "./EventPublisher.js"
import * as Lease from "./Lease.js"
import * as PublishResults from "./PublishResults.js"

export interface RelayOptions {
  readonly batchSize: number
  readonly lease: Duration.DurationInput
  readonly pollInterval: Duration.DurationInput
  /** How long a stop waits for the claim in hand. */
  readonly drainTimeout: Duration.DurationInput
  /** Gets what the relay does and waits for. */
  readonly part: Part
  /** Gets whether this process listens for notifications. */
  readonly listener: Part
}

/** Claims under way at the same time: while one is sent, the next is leased and the last is marked. */
const lanes = 3

/** What the lanes share. */
interface Shared {
  /** Set once, when the relay is interrupted. */
  stopping: boolean
  readonly cursor: ScanCursor.ScanCursor
  readonly leases: Lease.Keeper
  readonly part: Part
}

/** Milliseconds until events of a missing topic are attempted again: the delay of their release, and a margin. */
const missingTopic = 10_000

/** Records the spans of the events of a claim. An event that was certainly not sent goes on waiting. */
const recordSpans = (sending: EventSpans.Sending, { places, refused, sent, undecided }: Published) => {
  for (const event of sent) EventSpans.sent(sending, event, { place: places?.get(event) })
  for (const { event, reason } of refused) EventSpans.sent(sending, event, { error: reason })
  for (const event of undecided) EventSpans.sent(sending, event, { error: "undecided" })
}

/** Sends the events of a claim, and records the result. */
const publish = Effect.fnUntraced(function*(claim: Claim, since: bigint, publisher: Publisher, shared: Shared) {
  yield* CrashPoint.pass("relay-claimed")
  const { begin, end, moved, postponed, reached, stuck } = shared.part
  const work = begin("kafka", "sending events")
  const sending = EventSpans.sending(yield* Trace.recording, claim.token)
  const outages: Outages = {
    waits: (problem) => stuck(work, problem),
    missing: (topic, problem) => postponed(topic, problem, missingTopic),
    reached
  }
  yield* shared.leases.hold(
    claim,
    since,
    ({ mayStart }) =>
      Effect.tap(
        publisher.publish(claim.events, mayStart, outages),
        (published) => sending && Effect.sync(() => recordSpans(sending, published))
      ),
    (published) => {
      moved(work, "postgres", "marking sent events")
      return PublishResults.record(claim, published, shared.stopping)
    }
  ).pipe(Effect.ensuring(Effect.sync(() => end(work))))
})

/** Leases due events, and publishes them. Returns whether more events may be due now. */
const look = Effect.fnUntraced(function*(
  options: RelayOptions,
  publisher: Publisher,
  shared: Shared
) {
  const outbox = yield* Outbox
  const { dispatch, wake } = yield* OutboxWake.OutboxWake
  const since = yield* Clock.currentTimeNanos
  const from = shared.cursor.begin()
  const looks = dispatch.look()
  const claim = yield* shared.part.query("postgres", "leasing events", outbox.claim(options.batchSize, from)).pipe(
    Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("cannot claim events", error))
  )
  // the next wake-up or poll looks again; a failure would interrupt the other lanes before they mark what they have sent
  if (claim === undefined) {
    shared.cursor.failed(from)
    return false
  }
  shared.cursor.found(from, since, claim.sight)
  shared.part.working()
  if (claim.events.length === 0) return false
  const full = claim.events.length === options.batchSize
  // after a full claim there is more: another lane need not wait for this one
  if (full) yield* wake
  yield* publish(claim, since, publisher, shared)
  // another lane has claimed meanwhile, and may have passed over events that waited for these to be `DONE`
  return full || dispatch.looks() > looks
}, Trace.span("Relay.look", { root: true }))

/** Publishes dispatched events. Returns whether events in the table may be due now. */
const receive = Effect.fnUntraced(
  function*(dispatched: Dispatched, publisher: Publisher, shared: Shared) {
    const { dispatch } = yield* OutboxWake.OutboxWake
    // they waited for a lane longer than their lease, because no broker answered
    if (shared.leases.hasEnded(dispatched.since)) {
      yield* Effect.ignoreLogged((yield* Outbox).releaseAll(dispatched))
      return true
    }
    yield* publish(dispatched, dispatched.since, publisher, shared)
    // as above: no wake-up follows for events that waited for these
    return dispatch.looks() > dispatched.looks
  },
  Trace.span("Relay.receive", { root: true })
)

/** Publishes one claim after the other, until the relay stops. */
const lane = Effect.fnUntraced(function*(options: RelayOptions, shared: Shared) {
  const { dispatch, wake, wakeRequested, woken } = yield* OutboxWake.OutboxWake
  const publisher = yield* (yield* EventPublisher).open
  let more = true
  while (!shared.stopping) {
    const dispatched = dispatch.take(options.batchSize)
    if (dispatched !== undefined) more = (yield* receive(dispatched, publisher, shared)) || more
    if (shared.stopping) break
    if (wakeRequested() || more) more = yield* look(options, publisher, shared)
    else if (dispatched === undefined) yield* woken
  }
  // a wake-up wakes one lane: the next lane has to stop too
  yield* wake
}, Effect.scoped)

/** Takes no more dispatched events, and releases those that no lane has taken. */
const closeDispatch = Effect.gen(function*() {
  const { dispatch } = yield* OutboxWake.OutboxWake
  const outbox = yield* Outbox
  const untaken = dispatch.close()
  if (untaken !== undefined) yield* outbox.releaseAll(untaken)
}).pipe(Effect.ignoreLogged)

/**
 * Moves events from the outbox to their topics. Never ends by itself.
 *
 * Works without a pause while events are due; otherwise it waits for a wake-up, dispatched events or the next poll. On
 * interruption no further attempt starts; running ones are finished within `drainTimeout`, the other events released.
 */
export const serve = Effect.fnUntraced(function*(options: RelayOptions) {
  const { dispatch, wake } = yield* OutboxWake.OutboxWake
  const shared: Shared = {
    stopping: false,
    cursor: yield* ScanCursor.make,
    part: options.part,
    leases: yield* Lease.keeper({ lease: options.lease, stopping: () => shared.stopping })
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => dispatch.open(options.batchSize)),
    () => closeDispatch
  )
  const work = Effect.all(Arr.makeBy(lanes, () => lane(options, shared)), { concurrency: "unbounded", discard: true })
  const main = Drain.finish(work, {
    onStop: Effect.suspend(() => {
      shared.stopping = true
      return CrashPoint.pass("relay-stopping").pipe(Effect.zipRight(closeDispatch), Effect.zipRight(wake))
    }),
    within: options.drainTimeout
  })
  return yield* beside(Effect.zipRight(main, Effect.never), [
    shared.leases.keep,
    Notifications.listen(OutboxWake.channel, wake, options.listener),
    Effect.forever(Effect.zipRight(Effect.sleep(options.pollInterval), wake))
  ])
}, Effect.scoped)
