import type { Duration } from "effect"
import { Array as Arr, Effect, Schedule } from "effect"
import * as CrashPoint from "../drills/CrashPoint.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as KafkaConsumer from "../infra/kafka/KafkaConsumer.js"
import * as KafkaSpan from "../infra/kafka/KafkaSpan.js"
import type { Part } from "../infra/runtime/Health.js"
import * as Trace from "../infra/runtime/Trace.js"
import * as Withdrawal from "../infra/runtime/Withdrawal.js"
import * as DeadLetterLog from "./DeadLetterLog.js"
import * as DeadLetters from "./DeadLetters.js"
import * as Intake from "./Intake.js"
import * as RecordSpans from "./RecordSpans.js"
import * as Skips from "./Skips.js"
import type { Triage } from "./Triage.js"
import { triage } from "./Triage.js"

export interface InventoryConsumerOptions extends KafkaOptions {
  readonly groupId: string
  readonly sessionTimeout: Duration.Duration
  readonly topic: string
  readonly dlqTopic: string
  readonly acceptStatuses: ReadonlyArray<string>
  readonly drainTimeout: Duration.DurationInput
  /** Whether PostgreSQL takes no changes now. */
  readonly databaseIsAway: Effect.Effect<boolean>
  /** Gets what the consumer does and waits for. */
  readonly part: Part
}

/** Maximum number of records in one statement. A fetch may hold ten thousand, and the group expects heartbeats in between. */
const chunkSize = 1_000

/** From 100 ms, doubled up to 5 s. */
const backoff = Schedule.exponential("100 millis").pipe(Schedule.union(Schedule.spaced("5 seconds")), Schedule.jittered)

/**
 * Reads topic `inventory` and creates the payment of each reserved order. Never ends by itself.
 *
 * The offset moves only after the database has committed and the dead letters are written. While a dependency is away, the
 * batch stays in hand, until the group assigns the partition to another consumer. Without PostgreSQL for long the consumer leaves
 * the group. Fails when the Kafka consumer fails; the supervisor restarts it.
 */
export const serve = Effect.fnUntraced(function*(options: InventoryConsumerOptions) {
  const reserve = yield* Intake.make
  const accepted = new Set(options.acceptStatuses)
  const { part } = options
  const deadLetterLog = yield* DeadLetterLog.make(options.dlqTopic)

  const sendDeadLetters = Effect.fnUntraced(
    function*(batch: KafkaConsumer.Batch, place: string, malformed: Triage["malformed"]) {
      const { partition, topic } = batch
      const letters = malformed.map(({ reason, record: { headers, key, offset, unread, value } }) => ({
        key,
        value,
        headers,
        unread,
        reason,
        topic,
        partition,
        offset
      }))
      const { send } = yield* DeadLetters.make(options, options.dlqTopic, letters, batch.mayContinue)
      yield* part.step("dead_letter_topic", place, batch.mayContinue, backoff)(send)
      deadLetterLog(letters)
    },
    Trace.span(`send ${options.dlqTopic}`, {
      kind: "client",
      attributes: KafkaSpan.attributes("send", options.dlqTopic)
    }),
    Effect.scoped
  )

  /** Runs each step to success once. A failed step alone is retried, until it succeeds or the batch is revoked. */
  const takeWith = Effect.fnUntraced(
    function*(
      batch: KafkaConsumer.Batch,
      records: ReadonlyArray<KafkaConsumer.IncomingRecord>,
      spans: RecordSpans.RecordSpans
    ) {
      const place = `${batch.topic}/${batch.partition}`
      const { ignored, malformed, reservations } = triage(records, accepted, spans.traceparent)
      for (const { record } of malformed) spans.malformed(record)
      yield* CrashPoint.pass("consumer-decoded")
      if (reservations.length > 0) {
        yield* part.step("postgres", place, batch.mayContinue, backoff)(reserve(reservations))
      }
      if (malformed.length > 0) {
        yield* sendDeadLetters(batch, place, malformed)
        yield* CrashPoint.pass("consumer-dead-lettered")
      }
      yield* Intake.countOthers(ignored, malformed.length)
      yield* CrashPoint.pass("consumer-taken")
    }
  )
  const take = (batch: KafkaConsumer.Batch, records: ReadonlyArray<KafkaConsumer.IncomingRecord>) =>
    Effect.flatMap(
      RecordSpans.begin(options, batch, records),
      (spans) => spans.around(takeWith(batch, records, spans))
    )

  const handle = Effect.fnUntraced(function*(batch: KafkaConsumer.Batch) {
    for (const records of Arr.chunksOf(batch.records, chunkSize)) {
      if (!batch.mayContinue()) return
      const taken = yield* take(batch, records).pipe(
        Effect.as(true),
        // revoked: the next consumer of the partition reads the batch again from its committed offset
        Effect.orElseSucceed(() => false)
      )
      if (!taken) return
      batch.resolve(records.at(-1)!.offset)
    }
  }, (effect, { partition, topic }) => Effect.annotateLogs(effect, { topic, partition }))

  return yield* KafkaConsumer.consume({
    ...options,
    concurrency: 4,
    onJoin: Effect.sync(part.working),
    onStanding: (problem) =>
      Effect.sync(() => problem === undefined ? part.reached("progress") : part.postponed("progress", problem)),
    onSkip: Skips.report
  }, handle).pipe(
    Effect.ensuring(Effect.sync(() => part.reached("progress"))),
    Withdrawal.around({
      isCutOff: options.databaseIsAway,
      isBack: Effect.map(options.databaseIsAway, (isAway) => !isAway),
      after: options.sessionTimeout,
      part,
      problem: {
        reason: "postgres",
        why: "left the consumer group until PostgreSQL is back: other instances get the partitions"
      }
    })
  )
}, Effect.scoped)
