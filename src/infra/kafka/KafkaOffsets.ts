import { Effect, Schedule } from "effect"
import type { Admin } from "kafkajs"
import type { KafkaOptions } from "./KafkaClient.js"
import { attempt, KafkaUnavailable, reason, TopicMissing, withAdmin } from "./KafkaClient.js"
import * as KafkaPlaces from "./KafkaPlaces.js"

/** What is read of a partition: the offsets from `start` up to, not with, `end`. */
export interface Span {
  readonly partition: number
  readonly start: number
  readonly end: number
  /** Everything that was ever written before `end` is in the span, but for what compaction took. */
  readonly whole: boolean
}

/** What a broker answers that has just started, or moves groups or partitions elsewhere. */
const moving = new Set([
  "GROUP_LOAD_IN_PROGRESS",
  "GROUP_COORDINATOR_NOT_AVAILABLE",
  "NOT_COORDINATOR_FOR_GROUP",
  "NOT_LEADER_FOR_PARTITION",
  "LEADER_NOT_AVAILABLE"
])

/** Asks the same again, with new connections, while leaders and coordinators move: about 5 seconds. */
export const untilSettled = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.retry(effect, {
    while: (error) => error instanceof KafkaUnavailable && moving.has(reason(error.cause)),
    schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(50))
  })

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
export const spans = Effect.fn("KafkaOffsets.spans")(
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
  },
  untilSettled
)

/** What a group has committed of a topic, by partition; partitions where it has committed nothing are left out. */
const places = (options: KafkaOptions, topic: string, groupId: string) =>
  Effect.map(
    withAdmin(
      options,
      (admin) =>
        Effect.zipRight(mustExist(admin, topic), attempt(() => admin.fetchOffsets({ groupId, topics: [topic] })))
    ),
    ([offsets]) => (offsets?.partitions ?? []).filter(({ offset }) => Number(offset) >= 0)
  )

/** The offset that a group reads next, by partition; partitions where it has committed nothing are left out. */
export const committed = Effect.fn("KafkaOffsets.committed")(
  function*(options: KafkaOptions, topic: string, groupId: string) {
    return new Map((yield* places(options, topic, groupId)).map((_) => [_.partition, Number(_.offset)]))
  },
  untilSettled
)

/** How many records were gone before a group has read them, by partition, as its consumers have noted. */
export const skipped = Effect.fn("KafkaOffsets.skipped")(
  function*(options: KafkaOptions, topic: string, groupId: string) {
    return new Map(
      (yield* places(options, topic, groupId)).map((_) => [_.partition, Number(KafkaPlaces.read(_.metadata).skipped)])
    )
  },
  untilSettled
)
