import type { Scope } from "effect"
import { Deferred, Duration, Effect, FiberSet } from "effect"
import type { Admin, Consumer, EachBatchPayload } from "kafkajs"
import { randomUUID } from "node:crypto"
import type { KafkaOptions } from "./Kafka.js"
import { attempt, client, close, KafkaUnavailable, TopicMissing, withAdmin } from "./Kafka.js"
import type { IncomingRecord } from "./KafkaConsumer.js"

/** What is read of a partition: the offsets from `start` up to, not with, `end`. */
export interface Span {
  readonly partition: number
  readonly start: number
  readonly end: number
  /** Everything that was ever written before `end` is in the span, but for what compaction took. */
  readonly whole: boolean
}

/** Asking for the offsets of a missing topic may create it. */
const mustExist = (admin: Admin, topic: string) =>
  Effect.flatMap(
    attempt(() => admin.listTopics()),
    (topics) => topics.includes(topic) ? Effect.void : new TopicMissing({ topic })
  )

/**
 * The spans of a topic that end where it ends now (at its last stable offset: open transactions are not in it), and
 * begin with the first record that is there, or that is as young as `since` (milliseconds of the epoch).
 */
export const spans = Effect.fn("KafkaScan.spans")(
  function*(options: KafkaOptions, topic: string, since: number | undefined) {
    return yield* withAdmin(options, (admin) =>
      Effect.gen(function*() {
        yield* mustExist(admin, topic)
        const ends = yield* attempt(() => admin.fetchTopicOffsets(topic))
        const begins = since === undefined
          ? new Map<number, string>()
          : new Map(
            (yield* attempt(() => admin.fetchTopicOffsetsByTimestamp(topic, since))).map((_) => [_.partition, _.offset])
          )
        return ends.map(({ high, low, partition }): Span => {
          const end = Number(high)
          const start = Math.min(end, Number(begins.get(partition) ?? low))
          return { partition, start, end, whole: start === 0 }
        })
      }))
  }
)

/** The offset that a group reads next, by partition; partitions where it has committed nothing are left out. */
export const committed = Effect.fn("KafkaScan.committed")(
  function*(options: KafkaOptions, topic: string, groupId: string) {
    const [offsets] = yield* withAdmin(
      options,
      (admin) =>
        Effect.zipRight(mustExist(admin, topic), attempt(() => admin.fetchOffsets({ groupId, topics: [topic] })))
    )
    return new Map(
      (offsets?.partitions ?? []).flatMap(({ offset, partition }) =>
        Number(offset) < 0 ? [] : [[partition, Number(offset)] as const]
      )
    )
  }
)

/** A partition with no more to fetch below its end: compaction or retention took the rest. Fetches that found nothing. */
const quiet = { rounds: 3, time: Duration.seconds(3) }
/** Without any answer of a broker for this long, the scan is over. */
const silence = Duration.seconds(60)

const acquire = (options: KafkaOptions, groupId: string): Effect.Effect<Consumer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      client(options).consumer({
        groupId,
        sessionTimeout: 60_000,
        allowAutoTopicCreation: false,
        maxWaitTimeInMs: 250,
        readUncommitted: false,
        retry: { retries: 3, restartOnFailure: () => Promise.resolve(false) }
      })
    ),
    (consumer) =>
      Effect.zipRight(
        close(() => consumer.disconnect(), "5 seconds"),
        Effect.ignore(withAdmin(options, (admin) => close(() => admin.deleteGroups([groupId]), "2 seconds")))
      )
  )

/**
 * Reads the spans of a topic and ends with the last of them. Records come in the order of their partition, a fetch at a
 * time; nothing more is fetched of a broker before `handle` has ended. Aborted records and control records are left
 * out. Reads as a group of its own, which commits nothing and is deleted.
 */
export const scan = <E = never>(
  options: KafkaOptions,
  topic: string,
  wanted: ReadonlyArray<Span>,
  handle: (partition: number, records: ReadonlyArray<IncomingRecord>) => Effect.Effect<void, E>
): Effect.Effect<void, KafkaUnavailable | E> =>
  Effect.gen(function*() {
    const open = new Map(wanted.filter(({ end, start }) => start < end).map((span) => [span.partition, { ...span }]))
    if (open.size === 0) return
    const clock = yield* Effect.clock
    const handlers = yield* FiberSet.make<void, E>()
    const fork = yield* FiberSet.runtime(handlers)<never>()
    const ended = yield* Deferred.make<"all" | "quiet", KafkaUnavailable | E>()
    const consumer = yield* acquire(options, `payments-scan-${randomUUID()}`)
    const finish = (how: "all" | "quiet") => Deferred.unsafeDone(ended, Effect.succeed(how))

    const fetches = new Map<number, number>()
    let answered = clock.unsafeCurrentTimeMillis()
    let progressed = answered
    const progress = () => {
      fetches.clear()
      progressed = answered = clock.unsafeCurrentTimeMillis()
    }

    consumer.on(
      consumer.events.CRASH,
      ({ payload }) => Deferred.unsafeDone(ended, Effect.fail(new KafkaUnavailable({ cause: payload.error })))
    )
    // a group that is joined again knows no positions: it has committed none
    consumer.on(consumer.events.GROUP_JOIN, () => {
      progress()
      for (const { partition } of wanted) {
        const span = open.get(partition)
        if (span === undefined) consumer.pause([{ topic, partitions: [partition] }])
        else consumer.seek({ topic, partition, offset: String(span.start) })
      }
    })
    // also of batches that hold nothing but control records, which never come to the handler
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
          if (exit._tag === "Success") return resolve()
          Deferred.unsafeDone(ended, Effect.failCause(exit.cause))
          reject(new Error("the scan was stopped"))
        })
      })

    yield* attempt(() => consumer.connect())
    yield* attempt(() => consumer.subscribe({ topics: [topic], fromBeginning: true }))
    yield* attempt(() => consumer.run({ autoCommit: false, partitionsConsumedConcurrently: 1, eachBatch }))
    const watch = Effect.suspend(() =>
      clock.unsafeCurrentTimeMillis() - answered > Duration.toMillis(silence)
        ? new KafkaUnavailable({ cause: new Error("no answer to a fetch") })
        : Effect.sleep("1 second")
    ).pipe(Effect.forever)
    const how = yield* Effect.raceFirst(Deferred.await(ended), watch)
    // a partition without a leader is quiet too: asking for its offsets fails
    if (how === "quiet") yield* withAdmin(options, (admin) => attempt(() => admin.fetchTopicOffsets(topic)))
  }).pipe(Effect.scoped, Effect.withSpan("KafkaScan.scan"))
