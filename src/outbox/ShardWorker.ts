import type { Duration } from "effect"
import { Effect, Metric, Option } from "effect"
import * as CrashPoint from "../domain/CrashPoint.js"
import type * as Bell from "../infra/Bell.js"
import type { Transactions } from "../infra/KafkaTransactions.js"
import * as EventRecord from "./EventRecord.js"
import * as RelayMetrics from "./RelayMetrics.js"
import type { Batch } from "./ShardBatches.js"
import { ShardBatches } from "./ShardBatches.js"
import type { OwnedShard } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import { ShardLost, takeOver } from "./ShardTakeover.js"

/** Writes a batch and its number into a transaction. */
const send = Effect.fnUntraced(function*(transactions: Transactions, batch: Batch) {
  yield* CrashPoint.pass("relay-claimed")
  yield* transactions.send(batch.events.map(EventRecord.make), batch.number)
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
    readonly bell: Bell.Bell
    /** Rings when a pause has no more use: the work is to end, or the shard is another's. */
    readonly rouse: Bell.Bell
    /** Asked before each batch: true ends the work. */
    readonly stopping: () => boolean
    /** Told why nothing is published now, and undefined when something can be. */
    readonly onOutage: (problem: string | undefined) => Effect.Effect<void>
  }
) {
  const batches = yield* ShardBatches
  /** Grows with what succeeds and halves with what is refused, until the event at fault is alone. */
  let size = options.batchSize
  const pause = (time: Duration.DurationInput) => Effect.raceFirst(Effect.sleep(time), options.rouse.rung)

  const work = Effect.gen(function*() {
    const transactions = yield* takeOver(owned, options)
    yield* options.onOutage(undefined)
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
        const sending = send(transactions, batch).pipe(
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
      } else {
        const more = yield* markLast
        last = Option.none()
        if (!more && !options.stopping()) {
          yield* Effect.raceFirst(options.bell.rung, Effect.delay(renew(owned, transactions), renewal))
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
      ShardStuck: (error) =>
        Effect.logError(error.message).pipe(
          Effect.zipRight(options.onOutage(error.message)),
          Effect.zipRight(pause("30 seconds"))
        ),
      TopicMissing: (error) => Effect.zipRight(options.onOutage(error.message), pause("5 seconds")),
      TransactionFailed: (error) =>
        error.refused
          ? Effect.void
          : Effect.zipRight(
            Effect.logDebug("a transaction did not end well: its number will tell", error),
            Effect.zipRight(options.onOutage(error.message), pause(error.tooLong ? "5 seconds" : "50 millis"))
          )
    }),
    Effect.repeat({ while: () => !options.stopping() }),
    Effect.asVoid
  )
})
