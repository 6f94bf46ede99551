import type { Scope } from "effect"
import { Deferred, Duration, Effect, Exit, FiberSet } from "effect"
import type { Consumer, EachBatchPayload, Kafka } from "kafkajs"
import { randomUUID } from "node:crypto"
import { passedOver } from "./decode/KafkaParts.js"
import type { KafkaOptions } from "./KafkaClient.js"
import { attempt, client, close, connecting, finish, KafkaUnavailable, withAdmin } from "./KafkaClient.js"
import type { IncomingRecord } from "./KafkaConsumer.js"
import { readers } from "./KafkaGroupOffsets.js"
import type { Span } from "./KafkaOffsets.js"
import { untilSettled } from "./KafkaOffsets.js"

/** A scan ends after so many fetches and so much time without a record: compaction or retention took the rest. */
const quiet = { rounds: 3, time: Duration.seconds(3) }
/** A scan fails without any answer of a broker for this time. */
const silence = Duration.seconds(60)

const acquire = (
  options: KafkaOptions,
  kafka: Kafka,
  groupId: string
): Effect.Effect<Consumer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      kafka.consumer({
        groupId,
        sessionTimeout: 60_000,
        allowAutoTopicCreation: false,
        maxWaitTimeInMs: 250,
        readUncommitted: false,
        retry: { retries: 3, restartOnFailure: () => Promise.resolve(false) }
      })
    ),
    (consumer, exit) => {
      // after a failure the broker may not answer, and the caller waits for its error
      const limit = Exit.isSuccess(exit) ? "20 seconds" : "2 seconds"
      return Effect.zipRight(
        close(kafka, consumer, "5 seconds"),
        Effect.ignore(withAdmin(options, (admin) => finish(() => admin.deleteGroups([groupId]), limit)))
      )
    }
  )

/** Reads the open spans and moves their starts. Another call with the same spans goes on there. */
const read = <E>(
  options: KafkaOptions,
  topic: string,
  wanted: ReadonlyArray<Span>,
  open: Map<number, { start: number; readonly end: number }>,
  handle: (partition: number, records: ReadonlyArray<IncomingRecord>) => Effect.Effect<void, E>
): Effect.Effect<void, KafkaUnavailable | E> =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const handlers = yield* FiberSet.make<void, E>()
    const fork = yield* FiberSet.runtime(handlers)<never>()
    const ended = yield* Deferred.make<"all" | "quiet", KafkaUnavailable | E>()
    const kafka = client(options)
    const consumer = yield* acquire(options, kafka, `${readers}scan-${topic}-${randomUUID()}`)
    const finish = (how: "all" | "quiet") => Deferred.unsafeDone(ended, Effect.succeed(how))

    const fetches = new Map<number, number>()
    let answered = clock.unsafeCurrentTimeMillis()
    let progressed = answered
    let seen = passedOver.bytes
    const progress = () => {
      fetches.clear()
      progressed = answered = clock.unsafeCurrentTimeMillis()
    }

    consumer.on(
      consumer.events.CRASH,
      ({ payload }) => Deferred.unsafeDone(ended, Effect.fail(new KafkaUnavailable({ cause: payload.error })))
    )
    // the group commits nothing, so each join needs the positions again
    consumer.on(consumer.events.GROUP_JOIN, () => {
      progress()
      for (const { partition } of wanted) {
        const span = open.get(partition)
        if (span === undefined) consumer.pause([{ topic, partitions: [partition] }])
        else consumer.seek({ topic, partition, offset: String(span.start) })
      }
    })
    // this event also comes for batches of control records, which the handler does not get
    consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { lastOffset, partition } }) => {
      progress()
      const span = open.get(partition)
      if (span === undefined) return
      span.start = Math.max(span.start, Number(lastOffset) + 1)
      if (span.start < span.end) return
      open.delete(partition)
      consumer.pause([{ topic, partitions: [partition] }])
      if (open.size === 0) finish("all")
    })
    consumer.on(consumer.events.FETCH, ({ payload }) => {
      answered = clock.unsafeCurrentTimeMillis()
      // one record of hundreds of megabytes takes several fetches
      if (passedOver.bytes !== seen) progress()
      seen = passedOver.bytes
      const { nodeId } = payload as unknown as { readonly nodeId: number }
      fetches.set(nodeId, (fetches.get(nodeId) ?? 0) + 1)
      const rounds = Math.min(...fetches.values())
      if (rounds >= quiet.rounds && answered - progressed >= Duration.toMillis(quiet.time)) finish("quiet")
    })

    const eachBatch = ({ batch }: EachBatchPayload) =>
      new Promise<void>((resolve, reject) => {
        const span = open.get(batch.partition)
        const records = span === undefined ?
          [] :
          batch.messages.filter(({ offset }) => Number(offset) >= span.start && Number(offset) < span.end)
        if (records.length === 0) return resolve()
        fork(handle(batch.partition, records)).addObserver((exit) => {
          if (exit._tag === "Success") {
            span!.start = Number(records.at(-1)!.offset) + 1
            return resolve()
          }
          Deferred.unsafeDone(ended, Effect.failCause(exit.cause))
          reject(new Error("the scan was stopped"))
        })
      })

    yield* connecting(kafka, () => consumer.connect())
    yield* attempt(() => consumer.subscribe({ topics: [topic], fromBeginning: true }))
    yield* attempt(() => consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 1, eachBatch }))
    const watch = Effect.suspend(() =>
      clock.unsafeCurrentTimeMillis() - answered > Duration.toMillis(silence)
        ? new KafkaUnavailable({ cause: new Error("no answer to a fetch") })
        : Effect.sleep("1 second")
    ).pipe(Effect.forever)
    const how = yield* Effect.raceFirst(Deferred.await(ended), watch)
    // a partition without a leader is quiet too, and then the request for its offsets fails
    if (how === "quiet") yield* withAdmin(options, (admin) => attempt(() => admin.fetchTopicOffsets(topic)))
  }).pipe(Effect.scoped)

/**
 * Reads the spans of a topic, and ends after the last span. `handle` gets the records of one fetch and partition in their
 * order, without aborted records and control records. A broker gets the next fetch after `handle` has ended. The scan has a
 * group of its own, which is named by the topic, commits nothing and is deleted at the end.
 */
export const scan = <E = never>(
  options: KafkaOptions,
  topic: string,
  wanted: ReadonlyArray<Span>,
  handle: (partition: number, records: ReadonlyArray<IncomingRecord>) => Effect.Effect<void, E>
): Effect.Effect<void, KafkaUnavailable | E> =>
  Effect.suspend(() => {
    const open = new Map(
      wanted.flatMap(({ end, partition, start }) => start < end ? [[partition, { start, end }] as const] : [])
    )
    return open.size === 0 ? Effect.void : untilSettled(read(options, topic, wanted, open, handle))
  }).pipe(Effect.withSpan("KafkaScan.scan"))
