import type { Duration } from "effect"
import { Clock, Effect, Option } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import type { TransactionFailed, Transactions } from "../../infra/kafka/KafkaTransactions.js"
import type { Problem } from "../../infra/runtime/Problem.js"
import { problemOf } from "../../infra/runtime/Problem.js"
import type * as Signal from "../../infra/runtime/Signal.js"
import { BrokerContact } from "../BrokerContact.js"
import * as EventRecord from "../EventRecord.js"
import { Refusals } from "../Refusals.js"
import * as RelayMetrics from "../RelayMetrics.js"
import type * as ScanCursor from "../ScanCursor.js"
import { Spreads } from "../Spreads.js"
import * as BatchSpans from "./BatchSpans.js"
import type { Batch } from "./ShardBatches.js"
import { ShardBatches } from "./ShardBatches.js"
import type { OwnedShard } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import { ShardLost, takeOver } from "./ShardTakeover.js"

/** Writes a batch and its number into a transaction. */
const send = Effect.fnUntraced(function*(
  transactions: Transactions,
  { number }: Batch,
  records: ReadonlyArray<EventRecord.EventRecord>,
  { onWritten }: BatchSpans.Attempt
) {
  yield* CrashPoint.pass("relay-claimed")
  yield* transactions.send(records, number, onWritten)
  yield* CrashPoint.pass("relay-batch-sent")
})

/** Marks the events of a committed batch. Returns whether there are more due events. */
const mark = Effect.fnUntraced(function*(owned: OwnedShard, batch: Batch) {
  yield* CrashPoint.pass("relay-batch-committed")
  const { more, waited } = yield* (yield* ShardBatches).mark(owned, batch)
  yield* CrashPoint.pass("relay-marked")
  RelayMetrics.done(waited)
  return more
})

const refuse = Effect.fnUntraced(function*(batch: Batch, reason: string) {
  const batches = yield* ShardBatches
  const [event] = batch.events
  const refusals = yield* Refusals
  refusals.add(event!, yield* batches.refuse(batch, event!, reason), reason)
})

/** Pause after which an idle shard commits its number again: the broker forgets it after 7 days without a commit (default). */
const renewal = "12 hours"

/** Commits the last number once more. */
const renew = Effect.fnUntraced(function*(owned: OwnedShard, transactions: Transactions) {
  const batches = yield* ShardBatches
  const state = yield* batches.stateOf(owned)
  if (Option.isNone(state)) return
  yield* transactions.send([], state.value.done)
  yield* transactions.commit
})

/** The batch when no event is due. */
const nothing: Batch = { number: 0n, events: [], sight: undefined }

/**
 * Publishes the events of a shard, batch after batch, each in one transaction with its number: while one is committed the
 * next is leased, and while that is sent the last is marked. Fails with `ShardLost` when another relay owns the shard; after
 * any other failure it takes the shard over again, with a producer that fences the last one.
 */
export const serve = Effect.fnUntraced(function*(
  owned: OwnedShard,
  options: ShardOptions & {
    /** Where claims begin. */
    readonly cursor: ScanCursor.ScanCursor
    /** Notified when events may be due. */
    readonly due: Signal.Signal
    /** Notified when a pause is of no use any more: the worker stops, or its shard may be lost. */
    readonly endPause: Signal.Signal
    /** Read before each batch: true ends the work. */
    readonly stopping: () => boolean
    /** Receives what the worker does now, without a problem; undefined when it waits for due events. */
    readonly onProgress: (doing: string | undefined) => void
    /** Receives why the worker cannot publish now. */
    readonly onOutage: (problem: Problem) => Effect.Effect<void>
  }
) {
  const batches = yield* ShardBatches
  const spreads = yield* Spreads
  const { answered } = yield* BrokerContact
  const { cursor } = options
  const spans = BatchSpans.make(owned.name)
  /** Events of a batch at the most: doubles after a success, halves after a refusal, until the refused event is alone. */
  let size = options.batchSize
  const pause = (time: Duration.DurationInput) => Effect.raceFirst(Effect.sleep(time), options.endPause.wait)
  /** Failures since the last progress. Each doubles the pause before the next takeover, from 50 ms to 2 s. */
  let failures = 0
  const progress = (doing: string | undefined) => {
    failures = 0
    options.onProgress(doing)
  }

  const outage = (error: { readonly message: string }) => options.onOutage(problemOf(error, "no_progress"))

  const work = Effect.gen(function*() {
    const transactions = yield* takeOver(owned, { ...options, onOpen: spans.wereOpen })
    // events of a failed batch wait again
    cursor.rewind()
    const claim = Effect.gen(function*() {
      if (options.stopping()) return nothing
      const since = yield* Clock.currentTimeNanos
      const from = cursor.begin()
      const claimed = yield* batches.claim(owned, size, from)
      const batch = yield* Effect.mapError(claimed, () => new ShardLost({ shard: owned.shard }))
      cursor.found(from, since, batch.sight)
      return batch
    })
    /** Committed, and not marked yet. */
    let last: Option.Option<Batch> = Option.none()
    const markLast = Effect.suspend(() =>
      Option.match(last, { onNone: () => Effect.succeed(false), onSome: (batch) => mark(owned, batch) })
    )
    let batch = yield* claim
    while (batch.events.length > 0 || Option.isSome(last) || !options.stopping()) {
      if (batch.events.length > 0) {
        const records = batch.events.map((event) => EventRecord.make(event, spreads.of(event)))
        const attempt = yield* spans.begin(batch, records)
        const failed = <R>(effect: Effect.Effect<void, TransactionFailed, R>) =>
          Effect.tapError(effect, ({ reason }) => attempt.failed(reason))
        const sending = failed(send(transactions, batch, records, attempt)).pipe(
          Effect.tapErrorTag("TransactionFailed", ({ reason, refused }) => {
            if (!refused) return Effect.void
            if (batch.events.length === 1) return refuse(batch, reason)
            size = Math.ceil(batch.events.length / 2)
            return Effect.void
          })
        )
        yield* Effect.all([sending, markLast], { concurrency: "unbounded" })
        size = Math.min(options.batchSize, size * 2)
        const commit = Effect.zipRight(failed(transactions.commit), attempt.committed)
        const [next] = yield* Effect.all([claim, commit], { concurrency: "unbounded" })
        answered()
        last = Option.some(batch)
        batch = next
        progress(`publishing events of shard ${owned.shard}`)
      } else {
        const more = yield* markLast
        last = Option.none()
        if (!more && !options.stopping()) {
          progress(undefined)
          yield* Effect.raceFirst(options.due.wait, Effect.delay(renew(owned, transactions), renewal))
          options.onProgress(`publishing events of shard ${owned.shard}`)
        }
        batch = yield* claim
      }
    }
  }).pipe(Effect.scoped)

  return yield* work.pipe(
    Effect.catchTags({
      DatabaseUnavailable: (error) => Effect.zipRight(outage(error), pause("250 millis")),
      KafkaUnavailable: (error) => Effect.zipRight(outage(error), pause("250 millis")),
      // attempts fail until an operator decides
      ShardStuck: (error) => Effect.zipRight(outage(error), pause("30 seconds")),
      TopicMissing: (error) => Effect.zipRight(outage(error), pause("5 seconds")),
      TransactionFailed: (error) =>
        error.refused
          ? Effect.void
          : Effect.logDebug("a transaction failed: its committed number decides", error).pipe(
            Effect.zipRight(outage(error)),
            Effect.zipRight(Effect.suspend(() => pause(Math.min(2_000, 50 * 2 ** failures++))))
          )
    }),
    Effect.repeat({ while: () => !options.stopping() }),
    Effect.asVoid
  )
})
