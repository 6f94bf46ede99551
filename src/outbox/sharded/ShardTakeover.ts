import { Effect, Option, Schema } from "effect"
import type { KafkaOptions } from "../../infra/kafka/KafkaClient.js"
import type { TransactionsOptions } from "../../infra/kafka/KafkaTransactions.js"
import * as KafkaTransactions from "../../infra/kafka/KafkaTransactions.js"
import type { BatchState } from "./ShardBatches.js"
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
  /** Receives the events whose batches are not reconciled, before they are. */
  readonly onOpen?: (open: BatchState["open"]) => void
}

/** Another relay owns the shard. */
export class ShardLost extends Schema.TaggedError<ShardLost>()("ShardLost", { shard: Schema.Number }) {}

/** Neither broker, topic nor database shows whether the events of a batch are on the topic: a resend may double them. */
export class ShardStuck extends Schema.TaggedError<ShardStuck>()("ShardStuck", {
  shard: Schema.Number,
  events: Schema.Number
}) {
  readonly waitsFor = "operator"

  override get message() {
    return `the brokers have lost the number of shard ${this.shard}, and topic and database do not show whether ${this.events} ` +
      `events are on the topic: see payments shards, then payments shards --sent or --unsent ${this.shard}`
  }
}

/**
 * Fences all earlier producers of the shard, and marks what they have committed `DONE`. Their other events wait again.
 * Returns a producer; it may send only what is claimed after this, under the same token.
 */
export const takeOver = Effect.fn("ShardTakeover.takeOver")(function*(owned: OwnedShard, options: ShardOptions) {
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
  // after the fence, never before it: until then an earlier producer may commit another number
  const committed = yield* transactions.committed
  const reconcile = (number: bigint) => Effect.filterOrFail(batches.reconcile(owned, number), (mine) => mine, lost)
  const { batch, done, leasedAt, open } = yield* Effect.flatMap(batches.stateOf(owned), Effect.mapError(lost))
  options.onOpen?.(open)

  if (Option.isSome(committed) && committed.value >= done && committed.value <= batch) {
    yield* reconcile(committed.value)
    return transactions
  }
  // the number is lost or belongs to another database: a new shard, an expired group, a restored backup
  let last = batch
  if (open.length > 0) {
    const topics = new Set(open.map(({ topic }) => topic))
    const [topic] = topics
    const tail = topics.size === 1
      ? yield* TopicTail.find(options.kafka, topic!, new Map(open.map(({ id, payload }) => [id, payload])), leasedAt)
      : "unknown"
    if (tail === "unknown") return yield* new ShardStuck({ shard, events: open.length })
    yield* Effect.logWarning("the brokers had lost the number of a shard: read from the topic which events it has")
      .pipe(
        Effect.annotateLogs({ shard, events: open.length, on_topic: tail })
      )
    yield* reconcile(tail === "all" ? batch : open.reduce((low, { number }) => number < low ? number : low, batch) - 1n)
  }
  if (Option.isSome(committed) && committed.value > last) last = committed.value
  yield* reconcile(last)
  yield* transactions.send([], last)
  yield* transactions.commit
  return transactions
})
