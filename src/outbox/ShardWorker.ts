import type { Duration } from "effect"
import { Array as Arr, Effect, Metric, Option, Queue, Schema } from "effect"
import * as CrashPoint from "../domain/CrashPoint.js"
import type { KafkaOptions } from "../infra/Kafka.js"
import type { Transactions, TransactionsOptions } from "../infra/KafkaTransactions.js"
import * as KafkaTransactions from "../infra/KafkaTransactions.js"
import * as EventRecord from "./EventRecord.js"
import * as RelayMetrics from "./RelayMetrics.js"
import type { Batch } from "./ShardBatches.js"
import { ShardBatches } from "./ShardBatches.js"
import type { OwnedShard } from "./ShardOwners.js"
import { ShardOwners } from "./ShardOwners.js"
import * as TopicTail from "./TopicTail.js"

export interface ShardOptions {
  readonly kafka: KafkaOptions
  /** Topic written, to which the shards' groups commit the numbers of their batches. */
  readonly topic: string
  readonly batchSize: number
  /** How long a transaction may stay open. */
  readonly lease: TransactionsOptions["timeout"]
}

/** Another relay has taken over the shard. */
export class ShardLost extends Schema.TaggedError<ShardLost>()("ShardLost", { shard: Schema.Number }) {}

/** Nobody can tell whether the events of a batch are on the topic: sending them again may double them. */
export class ShardStuck extends Schema.TaggedError<ShardStuck>()("ShardStuck", {
  shard: Schema.Number,
  events: Schema.Number
}) {
  override get message() {
    return `the brokers have lost the number of shard ${this.shard}, and topic and database do not tell whether ${this.events} ` +
      `events are on the topic: see payments shards, then payments shards --sent or --unsent ${this.shard}`
  }
}

/**
 * Fences all earlier producers of the shard, and writes down what they have committed. What they left undone waits
 * again. Only what is claimed after this, under the same token, may be sent by the producer that it answers.
 */
export const takeOver = Effect.fn("ShardWorker.takeOver")(function*(owned: OwnedShard, options: ShardOptions) {
  const batches = yield* ShardBatches
  const { shard } = owned
  const lost = () => new ShardLost({ shard })
  yield* Effect.filterOrFail((yield* ShardOwners).refresh(owned), (mine) => mine, lost)
  const transactions = yield* KafkaTransactions.open({
    ...options.kafka,
    name: owned.name,
    topic: options.topic,
    timeout: options.lease
  })
  // after the fence, never before it: the number may still move until then
  const committed = yield* transactions.committed
  const ledger = yield* Effect.flatMap(batches.ledger(owned), Effect.mapError(lost))
  const reconcile = (number: bigint) => Effect.filterOrFail(batches.reconcile(owned, number), (mine) => mine, lost)
  const { batch, done, leasedAt, open } = ledger

  if (Option.isSome(committed) && committed.value >= done && committed.value <= batch) {
    yield* reconcile(committed.value)
    return transactions
  }
  // the number is lost, or that of another database: a new shard, an expired group, a restored backup
  let last = batch
  if (open.length > 0) {
    const topics = new Set(open.map(({ topic }) => topic))
    const [topic] = topics
    const tail = topics.size === 1
      ? yield* TopicTail.find(options.kafka, topic!, new Set(open.map(({ id }) => id)), leasedAt)
      : "unknown"
    if (tail === "unknown") return yield* new ShardStuck({ shard, events: open.length })
    yield* Effect.logWarning("the brokers had lost the number of a shard: the topic itself told").pipe(
      Effect.annotateLogs({ shard, events: open.length, onTopic: tail })
    )
    yield* reconcile(tail === "all" ? batch : open.reduce((low, { number }) => number < low ? number : low, batch) - 1n)
  }
  if (Option.isSome(committed) && committed.value > last) last = committed.value
  yield* reconcile(last)
  yield* transactions.send([], last)
  yield* transactions.commit
  return transactions
})

/** Commits a batch to the broker, and marks it. Answers whether there are more events. */
const publish = Effect.fn("ShardWorker.publish")(
  function*(owned: OwnedShard, transactions: Transactions, batch: Batch) {
    const batches = yield* ShardBatches
    yield* CrashPoint.pass("relay-claimed")
    yield* transactions.send(batch.events.map(EventRecord.make), batch.number)
    yield* CrashPoint.pass("relay-batch-sent")
    yield* transactions.commit
    yield* CrashPoint.pass("relay-batch-committed")
    const { more, waited } = yield* batches.mark(owned, batch)
    yield* CrashPoint.pass("relay-marked")
    yield* Metric.incrementBy(RelayMetrics.published, waited.length)
    for (const seconds of waited) RelayMetrics.latency.unsafeUpdate(seconds, [])
    return more
  }
)

const refuse = Effect.fnUntraced(function*(batch: Batch, reason: string) {
  const batches = yield* ShardBatches
  const [event] = batch.events
  const status = yield* batches.refuse(batch, event!, reason)
  yield* Metric.increment(
    status === "DEAD" ? RelayMetrics.dead : Metric.tagged(RelayMetrics.retried, "reason", "refused")
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

/**
 * Publishes the events of a shard, batch after batch, each in one transaction with its number. Fails with `ShardLost`
 * when the shard is another's; after any other failure it begins anew, with a producer that fences the last one.
 */
export const serve = Effect.fnUntraced(function*(
  owned: OwnedShard,
  options: ShardOptions & {
    /** Rings when something may be due. */
    readonly bell: Queue.Dequeue<void>
    /** Rings when a pause has no more use: the work is to end, or the shard is another's. */
    readonly rouse: Queue.Dequeue<void>
    /** Asked before each batch: true ends the work. */
    readonly stopping: () => boolean
    /** Told why nothing is published now, and undefined when something can be. */
    readonly onOutage: (problem: string | undefined) => Effect.Effect<void>
  }
) {
  const batches = yield* ShardBatches
  /** Grows with what succeeds and halves with what is refused, until the event at fault is alone. */
  let size = options.batchSize
  const pause = (time: Duration.DurationInput) => Effect.raceFirst(Effect.sleep(time), Queue.take(options.rouse))

  const work = Effect.gen(function*() {
    const transactions = yield* takeOver(owned, options)
    yield* options.onOutage(undefined)
    while (!options.stopping()) {
      const claimed = yield* batches.claim(owned, size)
      if (Option.isNone(claimed)) return yield* new ShardLost({ shard: owned.shard })
      const batch = claimed.value
      let more = false
      if (Arr.isNonEmptyReadonlyArray(batch.events)) {
        more = yield* publish(owned, transactions, batch).pipe(
          Effect.tapErrorTag("TransactionFailed", ({ reason, refused }) => {
            if (!refused) return Effect.void
            if (batch.events.length === 1) return refuse(batch, reason)
            size = Math.ceil(batch.events.length / 2)
            return Effect.void
          })
        )
        size = Math.min(options.batchSize, size * 2)
      }
      if (!more) yield* Effect.raceFirst(Queue.take(options.bell), Effect.delay(renew(owned, transactions), renewal))
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
