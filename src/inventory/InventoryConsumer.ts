import type { Duration } from "effect"
import { Array as Arr, Effect, Schedule } from "effect"
import * as CrashPoint from "../drills/CrashPoint.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as KafkaConsumer from "../infra/kafka/KafkaConsumer.js"
import * as KafkaSpan from "../infra/kafka/KafkaSpan.js"
import { beside } from "../infra/runtime/Beside.js"
import * as Trace from "../infra/runtime/Trace.js"
import * as Waiting from "../infra/runtime/Waiting.js"
import * as DeadLetters from "./DeadLetters.js"
import * as Intake from "./Intake.js"
import * as Lag from "./Lag.js"
import * as RecordSpans from "./RecordSpans.js"
import type { Triage } from "./Triage.js"
import { triage } from "./Triage.js"

export interface InventoryConsumerOptions extends KafkaOptions {
  readonly groupId: string
  readonly sessionTimeout: Duration.Duration
  readonly topic: string
  readonly dlqTopic: string
  readonly acceptStatuses: ReadonlyArray<string>
  readonly drainTimeout: Duration.DurationInput
  readonly onJoin?: Effect.Effect<void>
  /**
   * Called with a reason when a batch waits (`for`: "the database" or "the dead-letter topic") or partitions make no progress
   * ("progress"), and with undefined when that has ended.
   */
  readonly onWait: (what: string, problem: string | undefined) => Effect.Effect<void>
}

/** Maximum number of records in one statement. A fetch may hold ten thousand, and the group expects heartbeats in between. */
const chunkSize = 1_000

/** From 100 ms, doubled up to 5 s. */
const backoff = Schedule.exponential("100 millis").pipe(Schedule.union(Schedule.spaced("5 seconds")), Schedule.jittered)

/**
 * Reads topic `inventory` and creates the payment of each reserved order. Never ends by itself.
 *
 * The offset moves only after the database has committed and the dead letters are written. While a dependency is away, the
 * batch stays in hand, until the group assigns the partition to another consumer. Fails when the Kafka consumer fails; the
 * supervisor restarts it.
 */
export const serve = Effect.fnUntraced(function*(options: InventoryConsumerOptions) {
  const reserve = yield* Intake.make
  const accepted = new Set(options.acceptStatuses)
  const waiting = (what: string) =>
    Waiting.make({
      service: "inventory-consumer",
      for: what,
      report: (problem) => options.onWait(what, problem)
    }, backoff)
  const [database, deadLetterTopic] = yield* Effect.all([
    waiting("the database"),
    waiting("the dead-letter topic")
  ])

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
      yield* deadLetterTopic.step(place, batch.mayContinue)(send)
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
      if (reservations.length > 0) yield* database.step(place, batch.mayContinue)(reserve(reservations))
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

  const consume = KafkaConsumer.consume({
    ...options,
    concurrency: 4,
    onStanding: Lag.make((problem) => options.onWait("progress", problem)),
    onSkip: Lag.reportSkip
  }, handle)
  return yield* beside(consume, [database.watch, deadLetterTopic.watch])
})
