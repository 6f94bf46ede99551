import type { Scope } from "effect"
import { Duration, Effect, Option, Schema } from "effect"
import type { Transaction } from "kafkajs"
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
  /** Runs when all is sent, right before each commit. */
  readonly beforeCommit?: Effect.Effect<void>
}

/** A producer whose records become visible together with a number, or not at all. */
export interface Transactions {
  /** Commits records, in their order, and the number. Without records the number alone. */
  readonly commit: (records: ReadonlyArray<OutgoingRecord>, number: bigint) => Effect.Effect<void, TransactionFailed>
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
    const producer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        client(options).producer({
          transactionalId: options.name,
          transactionTimeout: Duration.toMillis(options.timeout),
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner: Partitioners.DefaultPartitioner,
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
    let next = Option.some(yield* begin)

    const take = Effect.suspend(() => {
      const open = next
      next = Option.none()
      return Option.match(open, { onNone: () => begin, onSome: Effect.succeed })
    })

    const send = (transaction: Transaction, records: ReadonlyArray<OutgoingRecord>) => {
      const topics = new Map<string, Array<OutgoingRecord>>()
      for (const record of records) {
        topics.has(record.topic) ? topics.get(record.topic)!.push(record) : topics.set(record.topic, [record])
      }
      const topicMessages = Array.from(topics, ([topic, messages]) => ({ topic, messages: messages as Array<any> }))
      return attempt(() => transaction.sendBatch({ acks: -1, topicMessages }))
    }

    return {
      commit: Effect.fnUntraced(function*(records, number) {
        const transaction = yield* take
        // records first: otherwise the number often meets the markers of the last transaction, and is refused
        if (records.length > 0) yield* Effect.mapError(send(transaction, records), failed(true))
        const topics = [{ topic: options.topic, partitions: [{ partition: 0, offset: String(number) }] }]
        yield* attempt(() => transaction.sendOffsets({ consumerGroupId: options.name, topics })).pipe(
          Effect.mapError(failed(false))
        )
        if (options.beforeCommit !== undefined) yield* options.beforeCommit
        yield* Effect.mapError(attempt(() => transaction.commit()), failed(false))
      }),
      committed: Effect.map(
        KafkaOffsets.committed(options, options.topic, options.name),
        (offsets) => Option.map(Option.fromNullable(offsets.get(0)), BigInt)
      )
    }
  })
