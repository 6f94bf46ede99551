import type { Scope } from "effect"
import { Array as Arr, Effect, Either, Schedule, Schema } from "effect"
import type { PartitionerArgs, ProducerBatch } from "kafkajs"
import { retry } from "../runtime/Retry.js"
import type { Share } from "./KafkaAttempt.js"
import { Attempt, Leaderless } from "./KafkaAttempt.js"
import type { KafkaOptions } from "./KafkaClient.js"
import { attempt, client, close, connecting, KafkaUnavailable, reason, TopicMissing } from "./KafkaClient.js"
import * as KafkaPartitioner from "./KafkaPartitioner.js"
import type { OutgoingRecord } from "./KafkaRecord.js"
import * as RecordTime from "./RecordTime.js"

export type { OutgoingRecord } from "./KafkaRecord.js"
export { bytesOf } from "./patches/RecordEncoder.js"

/** The broker refused a record, e.g. as too large. None of the records for the partition of that record is written. */
export class RecordsRefused extends Schema.TaggedError<RecordsRefused>()("RecordsRefused", {
  reason: Schema.String
}) {}

/** The broker does not know the state of this producer any more. Close the producer, and open another one. */
export class ProducerLost extends Schema.TaggedError<ProducerLost>()("ProducerLost", {
  reason: Schema.String
}) {}

/** `mayStart` said no before an attempt sent its first request. */
export class SendStopped extends Schema.TaggedError<SendStopped>()("SendStopped", {
  /** Brokers may have written the records of earlier attempts of the same call. */
  attempted: Schema.Boolean
}) {}

export type SendError = RecordsRefused | ProducerLost | TopicMissing | SendStopped | KafkaUnavailable

const refusals = new Set([
  "MESSAGE_TOO_LARGE",
  "RECORD_LIST_TOO_LARGE",
  "INVALID_RECORD",
  "POLICY_VIOLATION"
])

/** The topic does not exist, or its name is invalid. */
const missing = new Set(["UNKNOWN_TOPIC_OR_PARTITION", "INVALID_TOPIC_EXCEPTION"])

/** Whether a broker answers this error type because of a record. */
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

/** The offset of the first written record of a partition. */
export interface Position {
  readonly partition: number
  readonly offset: string
}

/**
 * Records that a broker has written. Keep the set for as long as the same records may be sent again, also by another
 * producer.
 */
export type WrittenRecords = WeakSet<OutgoingRecord>

/** A connected idempotent producer. All in-sync replicas acknowledge a request. One request is under way at a time. */
export interface KafkaProducer {
  /**
   * Writes records of one topic in their order, with one request a broker, in up to six attempts. Returns the
   * positions that this call has written.
   *
   * Leaves out the records that are in `written`, and adds those that a broker writes, also when the call fails.
   *
   * After `KafkaUnavailable` a broker may have written records without an answer. Then this producer may only send exactly
   * the same records: the broker knows them and does not write them twice. Use a new producer for anything else.
   * When only partitions without a leader are left, the cause of `KafkaUnavailable` is `Leaderless`: the others have their records.
   * `mayStart` is asked right before each attempt sends. `onWritten` gets what each partition has written.
   */
  readonly send: (
    records: ReadonlyArray<OutgoingRecord>,
    mayStart: () => boolean,
    written?: WrittenRecords,
    onWritten?: (share: Share) => void
  ) => Effect.Effect<ReadonlyArray<Position>, SendError>
  /** Groups records by the partition that this producer last chose for them. Each group keeps the order of the records. */
  readonly byPartition: (records: ReadonlyArray<OutgoingRecord>) => ReadonlyArray<ReadonlyArray<OutgoingRecord>>
}

const attempts = Schedule.intersect(Schedule.exponential("20 millis"), Schedule.recurs(5))

/** Opens a producer, until the scope ends. */
export const make = (options: KafkaOptions): Effect.Effect<KafkaProducer, KafkaUnavailable, Scope.Scope> =>
  Effect.gen(function*() {
    let current: Attempt | undefined
    /** Records of the requests that left in attempts that failed. */
    const tried = new WeakSet<object>()
    const partitions = KafkaPartitioner.keeping()
    const kafka = client(options)
    const producer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.producer({
          idempotent: true,
          maxInFlightRequests: 1,
          createPartitioner: () => (args: PartitionerArgs) => current!.partitionOf(args, partitions.choose),
          allowAutoTopicCreation: false,
          retry: { retries: 5, initialRetryTime: 20, maxRetryTime: 500 }
        })
      ),
      (producer) => close(kafka, producer, "2 seconds")
    )
    yield* connecting(kafka, () => producer.connect())

    const send = Effect.fnUntraced(function*(
      records: ReadonlyArray<OutgoingRecord>,
      mayStart: () => boolean,
      written: WrittenRecords = new WeakSet(),
      onWritten?: (share: Share) => void
    ) {
      const topic = records[0]!.topic
      const positions: Array<Position> = []
      let attempted = false
      const unled = new Map<object, Leaderless>()
      const once = Effect.gen(function*() {
        const open = records.filter((record) => !written.has(record) && !unled.has(record))
        if (open.length === 0) return
        const now = current = new Attempt(open[0]!, mayStart)
        const messages = open as unknown as NonNullable<ProducerBatch["topicMessages"]>[number]["messages"]
        const batch = { acks: -1, topicMessages: [{ topic, messages }] }
        const sent = yield* Effect.either(attempt(() => producer.sendBatch(batch)))
        const { failure, written: shares } = yield* now.result
        attempted ||= now.state === "sent"
        for (const share of shares) {
          const { offset, partition, records } = share
          positions.push({ partition, offset })
          for (const record of records) written.add(record)
          onWritten?.(share)
        }
        if (Either.isRight(sent)) return yield* RecordTime.accepted(topic)
        for (const record of now.departed) tried.add(record)
        if (now.state === "stopped") return yield* new SendStopped({ attempted })
        for (const [record, error] of now.unled) unled.set(record, error)
        const error = failure ?? sent.left
        // the next attempt writes without a time
        if (reason(error.cause) === "INVALID_TIMESTAMP") yield* RecordTime.refused(topic)
        return yield* sendError(error, topic, !records.some((record) => written.has(record)))
      }).pipe(Effect.uninterruptible)
      yield* retry(attempts, (error: SendError) => error._tag === "KafkaUnavailable")(once)
      const [left] = unled.values()
      if (left !== undefined) {
        const attempted = Array.from(unled.keys()).some((record) => tried.has(record))
        return yield* new KafkaUnavailable({ cause: new Leaderless(topic, left.partition, attempted) })
      }
      return positions
    })

    const byPartition = (records: ReadonlyArray<OutgoingRecord>) =>
      Object.values(Arr.groupBy(records, (record) => String(partitions.of(record))))

    return { send, byPartition }
  })
