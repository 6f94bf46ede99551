import type { Duration, Redacted } from "effect"
import { Array as Arr, Clock, Effect } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import * as Notifications from "../../infra/postgres/PostgresNotifications.js"
import { beside } from "../../infra/runtime/Beside.js"
import * as Trace from "../../infra/runtime/Trace.js"
import * as Drain from "../Drain.js"
import type { Handed } from "../Handover.js"
import { Outbox } from "../Outbox.js"
import type { Claim } from "../OutboxEvent.js"
import * as OutboxWake from "../OutboxWake.js"
import * as Progress from "../Progress.js"
import type { Publisher } from "./EventPublisher.js"
import { EventPublisher } from "./EventPublisher.js"
import * as Lease from "./Lease.js"
import * as Outcome from "./Outcome.js"
import * as ScanCursor from "./ScanCursor.js"

export interface RelayOptions {
  readonly batchSize: number
  readonly lease: Duration.DurationInput
  readonly pollInterval: Duration.DurationInput
  /** Where processes without a relay announce their commits. */
  readonly notifications: Redacted.Redacted
  /** How long a stop waits for the claim in hand. */
  readonly drainTimeout: Duration.DurationInput
  /** Told after each look at the outbox, and when it changes: why events are not published, or undefined. */
  readonly onTurn: (problem: string | undefined) => Effect.Effect<void>
}

/** Claims under way at the same time: while one is being sent, the next is leased and the last is marked. */
const lanes = 3

/** What the lanes share. */
interface Shared {
  /** Set once, when the relay is told to stop. */
  stopping: boolean
  readonly floor: ScanCursor.ScanCursor
  readonly leases: Lease.Keeper
  readonly progress: Progress.Progress
}

/** What a claim waits for when its database does not answer. */
const database = "postgres"

/** Milliseconds until events of a topic that is missing are tried again: the delay of their release, and some. */
const missingTopic = 10_000

/** Sends what is leased, and writes down what became of it. */
const publish = Effect.fnUntraced(function*(claim: Claim, since: bigint, publisher: Publisher, shared: Shared) {
  yield* CrashPoint.pass("relay-claimed")
  const { begin, end, moved, postponed, reached, stuck } = shared.progress
  const work = begin("waiting for the brokers' answer")
  const outages = {
    waits: (problem: string) => stuck(work, problem),
    missing: (topic: string, problem: string) => postponed(topic, problem, missingTopic),
    reached
  }
  yield* shared.leases.hold(
    claim,
    since,
    ({ mayStart }) => publisher.publish(claim.events, mayStart, outages),
    (outcome) => {
      moved(work, "waiting for the database to mark what was published")
      return Outcome.write(claim, outcome, shared.stopping)
    }
  ).pipe(Effect.ensuring(Effect.sync(() => end(work))))
})

/** Leases what is due, and takes it through. Answers whether there may be more to do now. */
const look = Effect.fnUntraced(function*(
  options: RelayOptions,
  publisher: Publisher,
  shared: Shared
) {
  const outbox = yield* Outbox
  const wake = yield* OutboxWake.OutboxWake
  const since = yield* Clock.currentTimeNanos
  const from = shared.floor.begin()
  const looks = wake.handover.look()
  const { begin, end, postponed, problem, reached } = shared.progress
  const work = begin("waiting for the database to lease events")
  const claim = yield* outbox.claim(options.batchSize, from).pipe(
    Effect.ensuring(Effect.sync(() => end(work))),
    Effect.tapError((error) => {
      postponed(database, error.message, Infinity)
      return options.onTurn(error.message)
    }),
    Effect.catchTag("DatabaseUnavailable", (error) => Effect.logDebug("no look at the outbox", error))
  )
  // the next announcement or poll looks again; to fail would take from the other lanes what they have sent, and not marked
  if (claim === undefined) {
    shared.floor.failed(from)
    return false
  }
  if (claim.sight !== undefined) shared.floor.found(from, since, claim.sight)
  reached(database)
  yield* options.onTurn(problem())
  if (claim.events.length === 0) return false
  const full = claim.events.length === options.batchSize
  // where a claim was full there is more: another lane need not wait for this one
  if (full) yield* wake.announce
  yield* publish(claim, since, publisher, shared)
  // another lane has looked meanwhile, and may have passed over what waited for these events to be `DONE`
  return full || wake.handover.looks() > looks
}, Trace.span("Relay.look", { root: true }))

/** Takes through what was leased when it was written. Answers whether there may be something to do in the table now. */
const receive = Effect.fnUntraced(
  function*(handed: Handed, publisher: Publisher, shared: Shared) {
    const { handover } = yield* OutboxWake.OutboxWake
    yield* publish(handed, handed.since, publisher, shared)
    // as above; nobody was told of what waited for these events
    return handover.looks() > handed.looks
  },
  Trace.span("Relay.receive", { root: true })
)

/** Takes one claim after the other through, until it is told to stop. */
const lane = Effect.fnUntraced(function*(options: RelayOptions, shared: Shared) {
  const { announce, announced, handover, rung } = yield* OutboxWake.OutboxWake
  const publisher = yield* (yield* EventPublisher).open
  let more = true
  while (!shared.stopping) {
    const handed = handover.take(options.batchSize)
    if (handed !== undefined) more = (yield* receive(handed, publisher, shared)) || more
    if (shared.stopping) break
    if (announced() || more) more = yield* look(options, publisher, shared)
    else if (handed === undefined) yield* rung
  }
  // one ring wakes one lane
  yield* announce
}, Effect.scoped)

/** Handed over and not sent: due at once, for any relay. */
const giveBack = (handed: Handed | undefined) =>
  handed === undefined
    ? Effect.void
    : Effect.flatMap(Outbox, (outbox) => outbox.giveBack(handed)).pipe(Effect.ignoreLogged)

/**
 * Moves events from the outbox to their topics. Never ends by itself.
 *
 * Works without a pause while there is anything due; otherwise it waits for an announcement, for events that are handed
 * over, or for the next poll. On interruption no further attempt starts; what is on its way is finished within
 * `drainTimeout`, the rest given back.
 */
export const serve = Effect.fnUntraced(function*(options: RelayOptions) {
  const { announce, handover } = yield* OutboxWake.OutboxWake
  const shared: Shared = {
    stopping: false,
    floor: yield* ScanCursor.make,
    progress: yield* Progress.make(options.onTurn),
    leases: yield* Lease.keeper({ lease: options.lease, stopping: () => shared.stopping })
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => handover.open(options.batchSize)),
    () => giveBack(handover.close())
  )
  const work = Effect.all(Arr.makeBy(lanes, () => lane(options, shared)), { concurrency: "unbounded", discard: true })
  const main = Drain.finish(work, {
    onStop: Effect.suspend(() => {
      shared.stopping = true
      return CrashPoint.pass("relay-stopping").pipe(
        Effect.zipRight(giveBack(handover.close())),
        Effect.zipRight(announce)
      )
    }),
    within: options.drainTimeout
  })
  return yield* beside(Effect.zipRight(main, Effect.never), [
    shared.leases.keep,
    shared.progress.watch,
    Notifications.listen(options.notifications, OutboxWake.channel, announce),
    Effect.forever(Effect.zipRight(Effect.sleep(options.pollInterval), announce))
  ])
}, Effect.scoped)
