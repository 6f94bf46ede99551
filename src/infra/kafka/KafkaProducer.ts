import type { Scope } from "effect"
import { Array as Arr, Effect, Either, Schedule, Schema } from "effect"
import type { IHeaders, PartitionerArgs, ProducerBatch } from "kafkajs"
import { retry } from "../runtime/Retry.js"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, client, close, connecting, reason, TopicMissing } from "./KafkaClient.js"
import type { Spread } from "./KafkaPartitioner.js"
import { javaCompatible, partitionOf } from "./KafkaPartitioner.js"
import { answerTo, forget } from "./patches/ProduceAnswers.js"
import * as RecordTime from "./RecordTime.js"

export { bytesOf } from "./patches/RecordEncoder.js"

/** A record to write. */
export interface OutgoingRecord {
  readonly topic: string
  readonly key: string | Buffer | null
  readonly value: string | Buffer | null
  readonly headers?: IHeaders
  /** Over how many partitions its key is spread. Default: all that the topic has at the moment. */
  readonly spread?: Spread
}

/** The broker refused what one of the partitions was to get, for what it is. That partition has taken nothing of it. */
export class RecordsRefused extends Schema.TaggedError<RecordsRefused>()("RecordsRefused", {
  reason: Schema.String
}) {}

/** The broker no longer knows what this producer has sent: close it, and go on with a new one. */
export class ProducerLost extends Schema.TaggedError<ProducerLost>()("ProducerLost", {
  reason: Schema.String
}) {}

/** `mayStart` said no before the bytes of an attempt left. */
export class SendStopped extends Schema.TaggedError<SendStopped>()("SendStopped", {
  /** Earlier attempts of the same call may have been written. */
  attempted: Schema.Boolean
}) {}

export type SendError = RecordsRefused | ProducerLost | TopicMissing | SendStopped | KafkaUnavailable

const refusals = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_RECORD",
  "POLICY_VIOLATION"
])

/** No record is at fault when its topic is not there, or cannot be. */
const missing = new Set(["UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION"])

/** Whether this error type says that a record was refused for what it is. */
export const isRefusal = (type: string) => refusals.has(type)

const losses = new Set([
  "UNKNOWN_PRODUCER_ID",
  "OUT_OF_ORDER_SEQUENCE_NUMBER",
  "INVALID_PRODUCER_EPOCH",
  "INVALID_PRODUCER_ID_MAPPING",
  "DUPLICATE_SEQUENCE_NUMBER"
])

const sendError = (error: KafkaUnavailable, topic: string, nothingWritten: boolean): SendError => {
  const type = reason(error.cause)
  if (isRefusal(type)) return new RecordsRefused({ reason: type })
  if (losses.has(type)) return new ProducerLost({ reason: type })
  return missing.has(type) && nothingWritten ? new TopicMissing({ topic }) : error
}

/** Where the first record of a partition was written. */
export interface Placed {
  readonly partition: number
  readonly offset: string
}

/** A connected idempotent producer: every in-sync replica answers, and one request is under way at a time. */
export interface KafkaProducer {
  /**
   * Writes all records of one topic, in their order, with one request a broker. Answers for those of this call.
   *
   * After `KafkaUnavailable` nobody knows what was written: the only thing that this producer may send next is the
   * very same records, which the broker then does not write twice. Anything else needs a new producer. A record that a
   * broker has answered for is never sent again, whichever producer it is given to.
   * `mayStart` is asked right before each attempt, of which there are a few.
   */
  readonly send: (
    records: ReadonlyArray<OutgoingRecord>,
    mayStart: () => boolean
  ) => Effect.Effect<ReadonlyArray<Placed>, SendError>
  /** Records by the partition that they were last meant for, in their order. */
  readonly byPartition: (records: ReadonlyArray<OutgoingRecord>) => ReadonlyArray<ReadonlyArray<OutgoingRecord>>
}

/** Records that a broker has answered for. */
const written = new WeakSet<OutgoingRecord>()

const attempts = Schedule.intersect(Schedule.exponential("20 millis"), Schedule.recurs(5))

export const make = (options: KafkaOptions): Effect.Effect<KafkaProducer, KafkaUnavailable, Scope.Scope> =>
  Effect.gen(function*() {
    let under: { readonly first: OutgoingRecord; readonly mayStart: () => boolean } | undefined
    let [attempted, stopped] = [false, false]
    let partitions = 1
    /** The records of the attempt, by partition. */
    const inHand = new Map<number, Array<OutgoingRecord>>()
    const keyless = new WeakMap<OutgoingRecord, number>()
    const placeOf = (record: OutgoingRecord) =>
      record.key === null ? keyless.get(record)! : partitionOf(record.key, record.spread?.partitions ?? partitions)

    // kafkajs asks the partitioner at the start of an attempt: the last moment at which it can be called off
    const createPartitioner = () => {
      const partitioner = javaCompatible()
      return (args: PartitionerArgs) => {
        if (args.message as unknown === under?.first) {
          // When one broker fails, kafkajs asks again those that have the same records in hand, or had them before the
          // partition moved: under new sequence numbers, so that they are written twice.
          const requested = Array.from(inHand.values()).some(([first]) => answerTo(first!) !== undefined)
          if (requested) throw Object.assign(new Error("a broker did not take its records"), { retriable: false })
          inHand.clear()
          partitions = args.partitionMetadata.length
          stopped = !under!.mayStart()
          if (stopped) throw Object.assign(new Error("sending was stopped"), { retriable: false })
          attempted = true
        }
        const record = args.message as unknown as OutgoingRecord
        // also without a key it stays with its partition: what was written is known by that
        const partition = record.key === null ? keyless.get(record) ?? partitioner(args) : partitioner(args)
        if (record.key === null) keyless.set(record, partition)
        const others = inHand.get(partition)
        if (others === undefined) inHand.set(partition, [record])
        else others.push(record)
        return partition
      }
    }

    const kafka = client(options)
    const producer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.producer({
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner,
          allowAutoTopicCreation: false,
          retry: { retries: 5, initialRetryTime: 20, maxRetryTime: 500 }
        })
      ),
      (producer) => close(kafka, producer, "2 seconds")
    )
    yield* connecting(kafka, () => producer.connect())

    /** Waits for every broker that was asked: kafkajs fails with the first that does, and tells nothing of the others. */
    const answered = Effect.gen(function*() {
      const places: Array<Placed> = []
      let failure: KafkaUnavailable | undefined
      for (const [partition, records] of inHand) {
        const answer = answerTo(records[0]!)
        if (answer === undefined) continue
        const taken = yield* Effect.either(attempt(() => answer))
        forget(records[0]!)
        if (Either.isLeft(taken)) failure ??= taken.left
        else {
          const placed = taken.right.topics.flatMap((topic) => topic.partitions).find((_) => _.partition === partition)
          for (const record of records) written.add(record)
          places.push({ partition, offset: placed?.baseOffset ?? "" })
        }
      }
      return { places, failure }
    })

    const send = Effect.fnUntraced(function*(records: ReadonlyArray<OutgoingRecord>, mayStart: () => boolean) {
      const topic = records[0]!.topic
      const places: Array<Placed> = []
      attempted = false
      const once = Effect.gen(function*() {
        const open = records.filter((record) => !written.has(record))
        if (open.length === 0) return
        under = { first: open[0]!, mayStart }
        stopped = false
        inHand.clear()
        const messages = open as unknown as NonNullable<ProducerBatch["topicMessages"]>[number]["messages"]
        const batch = { acks: -1, topicMessages: [{ topic, messages }] }
        const sent = yield* Effect.either(attempt(() => producer.sendBatch(batch)))
        const { failure, places: more } = yield* answered
        places.push(...more)
        if (Either.isRight(sent)) return yield* RecordTime.accepted(topic)
        if (stopped) return yield* new SendStopped({ attempted })
        const error = failure ?? sent.left
        // the next attempt writes without a time
        if (reason(error.cause) === "INVALID_TIMESTAMP") yield* RecordTime.refused(topic)
        return yield* sendError(error, topic, !records.some((record) => written.has(record)))
      }).pipe(Effect.uninterruptible)
      yield* retry(attempts, (error: SendError) => error._tag === "KafkaUnavailable")(once)
      return places
    })

    const byPartition = (records: ReadonlyArray<OutgoingRecord>) =>
      Object.values(Arr.groupBy(records, (record) => String(placeOf(record))))

    return { send, byPartition }
  })
