import type { Scope } from "effect"
import { Array as Arr, Duration, Effect, Either, Option, Schema } from "effect"
import type { PartitionerArgs } from "kafkajs"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, client, close, connecting, reason, TopicMissing } from "./KafkaClient.js"
import * as KafkaOffsets from "./KafkaOffsets.js"
import { javaCompatible } from "./KafkaPartitioner.js"
import type { OutgoingRecord } from "./KafkaProducer.js"
import { isRefusal } from "./KafkaProducer.js"
import { answerTo, forget } from "./patches/ProduceAnswers.js"
import * as RecordTime from "./RecordTime.js"

/**
 * A transaction did not end as it should: nobody knows whether it was committed. The producer must not be used again;
 * the next one with the same transactional id puts an end to it, and then the committed number tells.
 */
export class TransactionFailed extends Schema.TaggedError<TransactionFailed>()("TransactionFailed", {
  reason: Schema.String,
  /** The broker refused a record for what it is: the transaction is not committed. */
  refused: Schema.Boolean
}) {
  /** Only other settings mend it. */
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
  /** Transactional id, and the consumer group under which the number is committed. */
  readonly name: string
  /** An existing topic, to whose partition 0 the group commits its number. */
  readonly topic: string
  /** The broker aborts what is open for longer. */
  readonly timeout: Duration.DurationInput
}

/** A producer whose records become visible together with a number, or not at all. */
export interface Transactions {
  /** Writes records, those of a partition in their order, and the number: into a transaction that must not be open yet. */
  readonly send: (records: ReadonlyArray<OutgoingRecord>, number: bigint) => Effect.Effect<void, TransactionFailed>
  /** Commits what was sent. */
  readonly commit: Effect.Effect<void, TransactionFailed>
  /** The number that was committed last, by whomever. */
  readonly committed: Effect.Effect<Option.Option<bigint>, KafkaUnavailable | TopicMissing>
}

const failed = (refused: boolean) => (error: KafkaUnavailable) =>
  new TransactionFailed({ reason: reason(error.cause), refused: refused && isRefusal(reason(error.cause)) })

/** What a broker answered to the requests for these records, when it took some of them not. */
const refusalOf = Effect.fnUntraced(function*(records: ReadonlyArray<OutgoingRecord>) {
  for (const record of records) {
    const answer = answerTo(record)
    if (answer === undefined) continue
    forget(record)
    const taken = yield* Effect.either(attempt(() => answer))
    if (Either.isLeft(taken)) return taken.left
  }
  return undefined
})

/**
 * Opens a producer, and fences all that were opened with the same name before: their open transaction is aborted, and
 * no later one of theirs succeeds. What `committed` says from then on is final but for the commits of this producer.
 */
export const open = (options: TransactionsOptions): Effect.Effect<
  Transactions,
  KafkaUnavailable | TopicMissing | TransactionFailed,
  Scope.Scope
> =>
  Effect.gen(function*() {
    /** The first record of the batch in hand, and whether kafkajs has made requests of it. */
    let first: unknown
    let requested = false
    const createPartitioner = () => {
      const partitioner = javaCompatible()
      return (args: PartitionerArgs) => {
        if (args.message === first) {
          // when one broker fails, kafkajs asks again those that have the same records in hand, or had them before the
          // partition moved: under new sequence numbers, so that they are written twice
          if (requested) throw Object.assign(new Error("a broker did not take its records"), { retriable: false })
          requested = true
        }
        try {
          return partitioner(args)
        } catch (error) {
          // nothing of this attempt was requested: kafkajs makes requests when it has a place for each record
          requested = false
          throw error
        }
      }
    }

    const kafka = client(options)
    const producer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.producer({
          transactionalId: options.name,
          transactionTimeout: Duration.toMillis(options.timeout),
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner,
          allowAutoTopicCreation: false
        })
      ),
      (producer) => close(kafka, producer, "2 seconds")
    )
    yield* connecting(kafka, () => producer.connect())
    // asks for the producer id; the broker knows of a transaction from its first record on
    const begin = Effect.mapError(attempt(() => producer.transaction()), failed(false))
    let transaction = yield* begin

    const sendRecords = Effect.fnUntraced(function*(records: ReadonlyArray<OutgoingRecord>) {
      const topicMessages = Object.entries(Arr.groupBy(records, ({ topic }) => topic)).map(([topic, messages]) => ({
        topic,
        messages: messages as Array<any>
      }))
      first = topicMessages[0]!.messages[0]
      requested = false
      yield* attempt(() => transaction.sendBatch({ acks: -1, topicMessages })).pipe(
        // where a broker has answered, that is why; kafkajs tells only what became of the next attempt
        Effect.catchAll((error) => Effect.flatMap(refusalOf(records), (refusal) => Effect.fail(refusal ?? error))),
        Effect.mapError(failed(true)),
        Effect.tapBoth({
          // which of the topics it was is not told
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
      return attempt(() => transaction.sendOffsets({ consumerGroupId: options.name, topics })).pipe(
        Effect.mapError(failed(false))
      )
    }

    // A coordinator that has just got the group answers with what it knows to be on every replica, which may be less than
    // the last one has acknowledged: it knows of all that as soon as it acknowledges something itself.
    yield* sendNumber(0n).pipe(
      Effect.mapError((error) =>
        error.reason === "UNKNOWN_TOPIC_OR_PARTITION" ? new TopicMissing({ topic: options.topic }) : error
      )
    )
    yield* Effect.mapError(attempt(() => transaction.abort()), failed(false))

    return {
      send: Effect.fnUntraced(function*(records, number) {
        if (!transaction.isActive()) transaction = yield* begin
        // side by side: that is two round trips less. Whatever comes of either, nothing is committed
        yield* Effect.all(records.length === 0 ? [sendNumber(number)] : [sendRecords(records), sendNumber(number)], {
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
