import type { Duration } from "effect"
import { Effect, Metric, Option } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import type { Transactions } from "../../infra/kafka/KafkaTransactions.js"
import type * as Signal from "../../infra/runtime/Signal.js"
import * as EventRecord from "../EventRecord.js"
import * as RelayMetrics from "../RelayMetrics.js"
import { Spreads } from "../Spreads.js"
import type { Batch } from "./ShardBatches.js"
import { ShardBatches } from "./ShardBatches.js"
import type { OwnedShard } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import { ShardLost, takeOver } from "./ShardTakeover.js"

/** Writes a batch and its number into a transaction. */
const send = Effect.fnUntraced(function*(transactions: Transactions, batch: Batch, spreads: Spreads) {
  yield* CrashPoint.pass("relay-claimed")
  yield* transactions.send(batch.events.map((event) => EventRecord.make(event, spreads.of(event))), batch.number)
  yield* CrashPoint.pass("relay-batch-sent")
})

/** Writes down that a batch is committed. Answers whether there are more events. */
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
  const status = yield* batches.refuse(batch, event!, reason)
  yield* Metric.increment(
    status === "DEAD" ? RelayMetrics.dead : RelayMetrics.retriedAs.refused
  )
  yield* Effect.logError(
    status === "DEAD" ? "an event is dead: its order waits for an operator" : "the broker refused an event"
  ).pipe(Effect.annotateLogs({ event: event!.id, orderId: event!.key, reason }))
})

/** A number that nobody commits for long expires at the broker: 7 days by default. */
const renewal = "12 hours"

/** Commits the number that is committed once more. */
const renew = Effect.fnUntraced(function*(owned: OwnedShard, transactions: Transactions) {
  const batches = yield* ShardBatches
  const ledger = yield* batches.ledger(owned)
  if (Option.isNone(ledger)) return
  yield* transactions.send([], ledger.value.done)
  yield* transactions.commit
})

/** A batch of nothing. */
const nothing: Batch = { number: 0n, events: [] }

/**
 * Publishes the events of a shard, batch after batch, each in one transaction with its number: while one is committed the
 * next is leased, and while that is sent the last is marked. Fails with `ShardLost` when the shard is another's; after any
 * other failure it begins anew, with a producer that fences the last one.
 */
export const serve = Effect.fnUntraced(function*(
  owned: OwnedShard,
  options: ShardOptions & {
    /** Rings when something may be due. */
    readonly bell: Signal.Signal
    /** Rings when a pause has no more use: the work is to end, or the shard is another's. */
    readonly rouse: Signal.Signal
    /** Asked before each batch: true ends the work. */
    readonly stopping: () => boolean
    /** Told what is done now: whatever was in its way is over. Undefined when it waits for something to be due. */
    readonly onProgress: (doing: string | undefined) => void
    /** Told why nothing is published now. */
    readonly onOutage: (problem: string) => Effect.Effect<void>
  }
) {
  const batches = yield* ShardBatches
  const spreads = yield* Spreads
  /** Grows with what succeeds and halves with what is refused, until the event at fault is alone. */
  let size = options.batchSize
  const pause = (time: Duration.DurationInput) => Effect.raceFirst(Effect.sleep(time), options.rouse.rung)
  /** Failures since the last progress. Each doubles the pause before the next takeover, from 50 ms to 2 s. */
  let failures = 0
  const progress = (doing: string | undefined) => {
    failures = 0
    options.onProgress(doing)
  }

  const work = Effect.gen(function*() {
    const transactions = yield* takeOver(owned, options)
    const claim = Effect.suspend(() =>
      options.stopping()
        ? Effect.succeed(nothing)
        : Effect.flatMap(batches.claim(owned, size), Effect.mapError(() => new ShardLost({ shard: owned.shard })))
    )
    /** Committed, and not marked yet. */
    let last: Option.Option<Batch> = Option.none()
    const markLast = Effect.suspend(() =>
      Option.match(last, { onNone: () => Effect.succeed(false), onSome: (batch) => mark(owned, batch) })
    )
    let batch = yield* claim
    while (batch.events.length > 0 || Option.isSome(last) || !options.stopping()) {
      if (batch.events.length > 0) {
        const sending = send(transactions, batch, spreads).pipe(
          Effect.tapErrorTag("TransactionFailed", ({ reason, refused }) => {
            if (!refused) return Effect.void
            if (batch.events.length === 1) return refuse(batch, reason)
            size = Math.ceil(batch.events.length / 2)
            return Effect.void
          })
        )
        yield* Effect.all([sending, markLast], { concurrency: "unbounded" })
        size = Math.min(options.batchSize, size * 2)
        const [next] = yield* Effect.all([claim, transactions.commit], { concurrency: "unbounded" })
        last = Option.some(batch)
        batch = next
        progress(`publishing events of shard ${owned.shard}`)
      } else {
        const more = yield* markLast
        last = Option.none()
        if (!more && !options.stopping()) {
          progress(undefined)
          yield* Effect.raceFirst(options.bell.rung, Effect.delay(renew(owned, transactions), renewal))
          options.onProgress(`publishing events of shard ${owned.shard}`)
        }
        batch = yield* claim
      }
    }
  }).pipe(Effect.scoped)

  return yield* work.pipe(
    Effect.catchTags({
      DatabaseUnavailable: (error) => Effect.zipRight(options.onOutage(error.message), pause("250 millis")),
      KafkaUnavailable: (error) => Effect.zipRight(options.onOutage(error.message), pause("250 millis")),
      // an operator decides; until then the others need not try in vain
      ShardStuck: (error) => Effect.zipRight(options.onOutage(error.message), pause("30 seconds")),
      TopicMissing: (error) => Effect.zipRight(options.onOutage(error.message), pause("5 seconds")),
      TransactionFailed: (error) =>
        error.refused
          ? Effect.void
          : Effect.logDebug("a transaction did not end well: its number will tell", error).pipe(
            Effect.zipRight(options.onOutage(error.message)),
            Effect.zipRight(Effect.suspend(() => pause(Math.min(2_000, 50 * 2 ** failures++))))
          )
    }),
    Effect.repeat({ while: () => !options.stopping() }),
    Effect.asVoid
  )
})
