import { Effect, Schedule } from "effect"
import type { Admin } from "kafkajs"
import type { KafkaOptions } from "./KafkaClient.js"
import { attempt, KafkaUnavailable, reason, TopicMissing, withAdmin } from "./KafkaClient.js"
import * as KafkaPositions from "./KafkaPositions.js"
import * as KafkaTopic from "./KafkaTopic.js"

/** The offsets of a partition from `start` (inclusive) to `end` (exclusive). */
export interface Span {
  readonly partition: number
  readonly start: number
  readonly end: number
  /** The span begins at offset 0: it has all records before `end` that compaction has not removed. */
  readonly whole: boolean
}

/** The number of offsets in spans: of records, where compaction and transactions left no gaps. */
export const count = (spans: ReadonlyArray<Span>) => spans.reduce((sum, { end, start }) => sum + end - start, 0)

/** The ends of spans: at most so many offsets of each. */
export const newest = (spans: ReadonlyArray<Span>, each: number): ReadonlyArray<Span> =>
  spans.map((span) => ({ ...span, start: Math.max(span.start, span.end - each) }))

/** Errors of a broker that has just started, or while groups or partitions move to another broker. */
const moving = new Set([
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
  "NOT_LEADER_FOR_PARTITION",
  "LEADER_NOT_AVAILABLE",
  // kafkajs's own words after it asked each broker several times
  "Failed to find group coordinator"
])

/** Repeats an effect while leaders and coordinators move, for about 5 seconds. */
export const untilSettled = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(effect, {
    while: (error) => error instanceof KafkaUnavailable && moving.has(reason(error.cause)),
    schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(50))
  })

/**
 * Fails for a topic that the broker does not list: with `TopicMissing`, or with `KafkaUnavailable` when this user may not see it.
 * A request for the offsets of a missing topic may create it.
 */
const mustExist = (options: KafkaOptions, admin: Admin, topic: string) =>
  Effect.gen(function*() {
    if ((yield* attempt(() => admin.listTopics())).includes(topic)) return
    const { look } = yield* KafkaTopic.make(options, topic, "")
    const denied = yield* Effect.match(look, {
      onFailure: ({ cause }) => reason(cause) === "TOPIC_AUTHORIZATION_FAILED",
      onSuccess: () => false
    })
    return yield* denied ? KafkaUnavailable.denied(topic) : new TopicMissing({ topic })
  }).pipe(Effect.scoped)

/**
 * The spans of a topic. They end at its last stable offset, which is before open transactions. They begin at the first
 * record, or at the first record with a time of at least `since` (milliseconds of the epoch).
 */
export const spans = Effect.fn("KafkaOffsets.spans")(
  function*(options: KafkaOptions, topic: string, since: number | undefined) {
    return yield* withAdmin(options, (admin) =>
      Effect.gen(function*() {
        yield* mustExist(options, admin, topic)
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
  },
  untilSettled
)

/** The committed offsets of a group with their metadata. Leaves out partitions without a commit. */
const commitsOf = (options: KafkaOptions, topic: string, groupId: string) =>
  Effect.map(
    withAdmin(
      options,
      (admin) =>
        Effect.zipRight(
          mustExist(options, admin, topic),
          attempt(() => admin.fetchOffsets({ groupId, topics: [topic] }))
        )
    ),
    ([offsets]) => (offsets?.partitions ?? []).filter(({ offset }) => Number(offset) >= 0)
  )

/** The offset that a group reads next, by partition. Leaves out partitions without a commit. */
export const committed = Effect.fn("KafkaOffsets.committed")(
  function*(options: KafkaOptions, topic: string, groupId: string) {
    return new Map((yield* commitsOf(options, topic, groupId)).map((_) => [_.partition, Number(_.offset)]))
  },
  untilSettled
)

/** The number of records that a group never read, by partition, as its consumers have noted it. */
export const skipped = Effect.fn("KafkaOffsets.skipped")(
  function*(options: KafkaOptions, topic: string, groupId: string) {
    return new Map(
      (yield* commitsOf(options, topic, groupId)).map((
        _
      ) => [_.partition, Number(KafkaPositions.read(_.metadata).skipped)])
    )
  },
  untilSettled
)
