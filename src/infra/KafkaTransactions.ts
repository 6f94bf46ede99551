import type { Scope } from "effect"
import { Array as Arr, Duration, Effect, Option, Schema } from "effect"
import type { PartitionerArgs } from "kafkajs"
import { Partitioners } from "kafkajs"
import type { KafkaOptions, KafkaUnavailable, TopicMissing } from "./Kafka.js"
import { attempt, client, close, reason } from "./Kafka.js"
import * as KafkaOffsets from "./KafkaOffsets.js"
import type { OutgoingRecord } from "./KafkaProducer.js"
import { isRefusal } from "./KafkaProducer.js"

/**
 * A transaction did not end as it should: nobody knows whether it was committed. The producer must not be used again;
 * the next one with the same transactional id puts an end to it, and then the committed number tells.
 */
export class TransactionFailed extends Schema.TaggedError<TransactionFailed>()("TransactionFailed", {
  reason: Schema.String,
  /** The broker refused a record for what it is: the transaction is not committed. */
  refused: Schema.Boolean
}) {
  override get message() {
    return this.reason === "INVALID_TRANSACTION_TIMEOUT"
      ? "OUTBOX_LEASE is longer than the brokers' transaction.max.timeout.ms: shorten the one or raise the other"
      : `a kafka transaction failed: ${this.reason}`
  }
}

export interface TransactionsOptions extends KafkaOptions {
  /** Transactional id, and the consumer group under which the number is committed. */
  readonly name: string
  /** An existing topic, to whose partition 0 the group commits its number. */
  readonly topic: string
  /** The broker aborts what is open for longer. */
  readonly timeout: Duration.DurationInput
}

/** A producer whose records become visible together with a number, or not at all. */
export interface Transactions {
  /** Sends records in their order: into the transaction that is open, or a new one. */
  readonly send: (records: ReadonlyArray<OutgoingRecord>) => Effect.Effect<void, TransactionFailed>
  /** Commits what was sent, and the number with it. Nothing need have been sent. */
  readonly commit: (number: bigint) => Effect.Effect<void, TransactionFailed>
  /** The number that was committed last, by whomever. */
  readonly committed: Effect.Effect<Option.Option<bigint>, KafkaUnavailable | TopicMissing>
}

const failed = (refused: boolean) => (error: KafkaUnavailable) =>
  new TransactionFailed({ reason: reason(error.cause), refused: refused && isRefusal(reason(error.cause)) })

/**
 * Opens a producer, and fences all that were opened with the same name before: their open transaction is aborted, and
 * no later one of theirs succeeds. What `committed` says from then on is final but for the commits of this producer.
 */
export const open = (options: TransactionsOptions): Effect.Effect<
  Transactions,
  KafkaUnavailable | TransactionFailed,
  Scope.Scope
> =>
  Effect.gen(function*() {
    /** Partitions that the records in hand are meant for, and no broker has answered for. */
    const unanswered = new Set<string>()
    const createPartitioner = () => {
      const javaCompatible = Partitioners.DefaultPartitioner()
      return (args: PartitionerArgs) => {
        const partition = javaCompatible(args)
        unanswered.add(`${args.topic}/${partition}`)
        return partition
      }
    }

    const producer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        client(options).producer({
          transactionalId: options.name,
          transactionTimeout: Duration.toMillis(options.timeout),
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner,
          allowAutoTopicCreation: false,
          // a transaction meets the markers of the last one for some milliseconds: with the default of 300 ms before
          // the first retry that costs three quarters of the throughput
          retry: { retries: 8, initialRetryTime: 2, maxRetryTime: 500 }
        })
      ),
      (producer) => close(() => producer.disconnect(), "2 seconds")
    )
    yield* attempt(() => producer.connect())
    // asks for the producer id; the broker knows of a transaction from its first record on
    const begin = Effect.mapError(attempt(() => producer.transaction()), failed(false))
    let transaction = yield* begin

    const current = Effect.suspend(() =>
      transaction.isActive() ? Effect.succeed(transaction) : Effect.tap(begin, (begun) => transaction = begun)
    )

    return {
      send: Effect.fnUntraced(function*(records) {
        const open = yield* current
        const byTopic = Arr.groupBy(records, ({ topic }) => topic)
        const topicMessages = Object.entries(byTopic).map(([topic, messages]) => ({
          topic,
          messages: messages as Array<any>
        }))
        unanswered.clear()
        const written = yield* Effect.mapError(attempt(() => open.sendBatch({ acks: -1, topicMessages })), failed(true))
        for (const { partition, topicName } of written) unanswered.delete(`${topicName}/${partition}`)
        // kafkajs asks each broker once: a partition that moves meanwhile to one that has answered is left out
        if (unanswered.size > 0) {
          return yield* new TransactionFailed({ reason: "a partition moved while it was written", refused: false })
        }
      }),
      commit: Effect.fnUntraced(function*(number) {
        const open = yield* current
        const topics = [{ topic: options.topic, partitions: [{ partition: 0, offset: String(number) }] }]
        yield* Effect.mapError(
          attempt(() => open.sendOffsets({ consumerGroupId: options.name, topics })),
          failed(false)
        )
        yield* Effect.mapError(attempt(() => open.commit()), failed(false))
      }),
      committed: Effect.map(
        KafkaOffsets.committed(options, options.topic, options.name),
        (offsets) => Option.map(Option.fromNullable(offsets.get(0)), BigInt)
      )
    }
  })
