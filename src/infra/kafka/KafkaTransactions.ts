import type { Scope } from "effect"
import { Array as Arr, Duration, Effect, Option, Schema } from "effect"
import type { PartitionerArgs } from "kafkajs"
import { Attempt } from "./KafkaAttempt.js"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, client, close, connecting, reason, TopicMissing } from "./KafkaClient.js"
import * as KafkaOffsets from "./KafkaOffsets.js"
import { javaCompatible } from "./KafkaPartitioner.js"
import { isRefusal } from "./KafkaProducer.js"
import type { OutgoingRecord } from "./KafkaRecord.js"
import * as RecordTime from "./RecordTime.js"

/**
 * A transaction failed. It may be committed or not. Do not use the producer again. The next producer with the same
 * transactional id ends the transaction, and then the committed number shows whether it was committed.
 */
export class TransactionFailed extends Schema.TaggedError<TransactionFailed>()("TransactionFailed", {
  reason: Schema.String,
  /** The broker refused a record, e.g. as too large. The transaction is not committed. */
  refused: Schema.Boolean
}) {
  /** The timeout is above the brokers' limit. Only other settings help. */
  get tooLong() {
    return this.reason === "INVALID_TRANSACTION_TIMEOUT"
  }
  override get message() {
    return this.tooLong
      ? "OUTBOX_LEASE is longer than the brokers' transaction.max.timeout.ms: shorten the one or raise the other"
      : `a kafka transaction failed: ${this.reason}`
  }
}

export interface TransactionsOptions extends KafkaOptions {
  /** Transactional id, and the consumer group that commits the number. */
  readonly name: string
  /** An existing topic. The group commits its number as the offset of partition 0. */
  readonly topic: string
  /** The broker aborts a transaction that stays open for longer. */
  readonly timeout: Duration.DurationInput
}

/** A producer whose records become visible together with a number, or not at all. */
export interface Transactions {
  /** Begins a transaction, and writes records and the number into it. The records of a partition keep their order. */
  readonly send: (records: ReadonlyArray<OutgoingRecord>, number: bigint) => Effect.Effect<void, TransactionFailed>
  /** Commits the transaction. */
  readonly commit: Effect.Effect<void, TransactionFailed>
  /** The number that a producer of this name committed last. */
  readonly committed: Effect.Effect<Option.Option<bigint>, KafkaUnavailable | TopicMissing>
}

const failed = (refused: boolean) => (error: KafkaUnavailable) =>
  new TransactionFailed({ reason: reason(error.cause), refused: refused && isRefusal(reason(error.cause)) })

/**
 * Opens a producer, and fences all earlier producers of the same name: the broker aborts their open transaction, and no
 * later transaction of theirs succeeds. From then on only this producer changes `committed`.
 */
export const open = (options: TransactionsOptions): Effect.Effect<
  Transactions,
  KafkaUnavailable | TopicMissing | TransactionFailed,
  Scope.Scope
> =>
  Effect.gen(function*() {
    let current: Attempt | undefined
    const choose = javaCompatible()
    const kafka = client(options)
    const producer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.producer({
          transactionalId: options.name,
          transactionTimeout: Duration.toMillis(options.timeout),
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner: () => (args: PartitionerArgs) => current!.partitionOf(args, choose),
          allowAutoTopicCreation: false
        })
      ),
      (producer) => close(kafka, producer, "2 seconds")
    )
    yield* connecting(kafka, () => producer.connect())
    // the first call asks for the producer id; for the broker a transaction begins with its first record
    const begin = Effect.mapError(attempt(() => producer.transaction()), failed(false))
    let transaction = yield* begin

    const sendRecords = Effect.fnUntraced(function*(records: ReadonlyArray<OutgoingRecord>) {
      const byTopic = Object.entries(Arr.groupBy(records, ({ topic }) => topic))
      const now = current = new Attempt(byTopic[0]![1][0], () => true)
      const topicMessages = byTopic.map(([topic, messages]) => ({ topic, messages: messages as Array<any> }))
      yield* attempt(() => transaction.sendBatch({ acks: -1, topicMessages })).pipe(
        // the answer of a broker is the reason; kafkajs may fail with the error of its next round instead
        Effect.catchAll((error) => Effect.flatMap(now.result, ({ failure }) => Effect.fail(failure ?? error))),
        Effect.mapError(failed(true)),
        Effect.tapBoth({
          // the error does not name the topic
          onFailure: (error) =>
            error.reason === "INVALID_TIMESTAMP"
              ? Effect.forEach(topicMessages, ({ topic }) => RecordTime.refused(topic), { discard: true })
              : Effect.void,
          onSuccess: () => Effect.forEach(topicMessages, ({ topic }) => RecordTime.accepted(topic), { discard: true })
        })
      )
    })

    const sendNumber = (number: bigint) => {
      const topics = [{ topic: options.topic, partitions: [{ partition: 0, offset: String(number) }] }]
      return attempt(() => transaction.sendOffsets({ consumerGroupId: options.name, topics }))
    }

    // A coordinator that has just taken over the group answers with offsets that are on every replica. The last coordinator
    // may have acknowledged more. The new one answers with all of it after it has acknowledged something itself.
    yield* KafkaOffsets.untilSettled(sendNumber(0n)).pipe(
      Effect.mapError((error) =>
        reason(error.cause) === "UNKNOWN_TOPIC_OR_PARTITION"
          ? new TopicMissing({ topic: options.topic })
          : failed(false)(error)
      )
    )
    yield* Effect.mapError(attempt(() => transaction.abort()), failed(false))

    return {
      send: Effect.fnUntraced(function*(records, number) {
        if (!transaction.isActive()) transaction = yield* begin
        // both at once saves two round trips; when one fails, the transaction is not committed
        const numbered = Effect.mapError(sendNumber(number), failed(false))
        yield* Effect.all(records.length === 0 ? [numbered] : [sendRecords(records), numbered], {
          concurrency: "unbounded",
          discard: true
        })
      }),
      commit: Effect.suspend(() => Effect.mapError(attempt(() => transaction.commit()), failed(false))),
      committed: Effect.map(
        KafkaOffsets.committed(options, options.topic, options.name),
        (offsets) => Option.map(Option.fromNullable(offsets.get(0)), BigInt)
      )
    }
  })
