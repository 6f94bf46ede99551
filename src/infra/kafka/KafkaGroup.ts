import type { Scope } from "effect"
import { Duration, Effect, Schema } from "effect"
import type { Consumer, Kafka } from "kafkajs"
import { PartitionAssigners } from "kafkajs"
import type { KafkaOptions } from "./KafkaClient.js"
import { client, close, KafkaUnavailable, reason, TopicMissing } from "./KafkaClient.js"
import type { Skip } from "./KafkaPlaces.js"
import type { Standing } from "./KafkaWait.js"
import * as ConsumerGroupSeek from "./patches/ConsumerGroupSeek.js"

/** kafkajs gave up on the group or on a broker. A new consumer takes up where the committed offsets are. */
export class ConsumerCrashed extends Schema.TaggedError<ConsumerCrashed>()("ConsumerCrashed", {
  cause: Schema.Defect
}) {
  override get message() {
    return `the kafka consumer stopped: ${reason(this.cause)}`
  }
}

/** A consumer, and the group that it shares a topic with. */
export interface ConsumerOptions extends KafkaOptions {
  readonly groupId: string
  /** The group keeps a member that is heard from within this time; a batch is worked on in the background of that. */
  readonly sessionTimeout: Duration.Duration
  readonly topic: string
  /** How many partitions are worked on at the same time. */
  readonly concurrency: number
  /** How long a stop waits for the batches in hand. */
  readonly drainTimeout: Duration.DurationInput
  /** Told when the group has given this consumer its partitions, and their positions are known. */
  readonly onJoin?: Effect.Effect<void>
  /** Told of records that the group has not read and never will. */
  readonly onSkip?: (skip: Skip) => Effect.Effect<void>
  /** Told each second how the consumer stands. Who is told waits for a topic that is not there; else that is a failure. */
  readonly onStanding?: (standing: Standing) => Effect.Effect<void>
}

/** Several may be lost on the way. */
const heartbeatInterval = ({ sessionTimeout }: ConsumerOptions) => Duration.times(sessionTimeout, 0.2)

/** A member of a group. */
export interface Member {
  readonly kafka: Kafka
  readonly consumer: Consumer
  /** Asks the brokers for the partitions of the topic; when there are new ones, the group shares all of them anew. */
  readonly lookForPartitions: () => Promise<void>
}

/** A member of the group, until the scope ends. It chooses its own positions. */
export const member = (options: ConsumerOptions): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function*() {
    yield* Effect.acquireRelease(
      Effect.sync(() => ConsumerGroupSeek.choosesPositions(options.groupId)),
      (stop) => Effect.sync(stop)
    )
    const kafka = client(options)
    let lookForPartitions = () => Promise.resolve()
    const consumer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.consumer({
          groupId: options.groupId,
          sessionTimeout: Duration.toMillis(options.sessionTimeout),
          rebalanceTimeout: Duration.toMillis(options.sessionTimeout),
          heartbeatInterval: Duration.toMillis(heartbeatInterval(options)),
          allowAutoTopicCreation: false,
          // what comes is answered at once, but a stop waits for the fetch that is open, and so does sharing the group anew
          maxWaitTimeInMs: 1_000,
          partitionAssigners: [(parts) => {
            const cluster = parts.cluster as unknown as { readonly refreshMetadata: () => Promise<void> }
            lookForPartitions = () => cluster.refreshMetadata()
            return PartitionAssigners.roundRobin(parts)
          }],
          retry: {
            // a broker that restarts is waited for with our membership: a new member would wait for the old one's session
            retries: 10,
            initialRetryTime: 100,
            maxRetryTime: 1_000,
            // beyond that restarting is the supervisor's job: a crash is told, not mended behind its back
            restartOnFailure: () => Promise.resolve(false)
          }
        })
      ),
      // waits for the fetch that is open, and leaves the group
      (consumer) => close(kafka, consumer, "3 seconds")
    )
    return { kafka, consumer, lookForPartitions: () => lookForPartitions() }
  })

/** The error of the broker that ended a consumer, or did not let it begin. */
const typeOf = (error: unknown) =>
  error instanceof ConsumerCrashed || error instanceof KafkaUnavailable ? reason(error.cause) : ""

/** A broker that has just started, or moves the group elsewhere: kafkajs does not wait for it when it joins. */
export const isMoving = (error: unknown) =>
  error instanceof ConsumerCrashed &&
  ["GROUP_LOAD_IN_PROGRESS", "GROUP_COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR_FOR_GROUP"].includes(typeOf(error))

class TopicChanged extends Error {}

/** The topic was deleted, and another one has its name. */
export const topicChanged = (topic: string) =>
  new KafkaUnavailable({ cause: new TopicChanged(`topic ${topic} was deleted and made again`) })

/**
 * The topic is another one now, or what was to be read next is gone: reading begins anew where it can. A topic that is
 * not there may come, which `awaitsTopic` waits for.
 */
export const hasLostItsPlace = (error: unknown, awaitsTopic: boolean) =>
  (error instanceof KafkaUnavailable && error.cause instanceof TopicChanged) ||
  typeOf(error) === "OFFSET_OUT_OF_RANGE" ||
  (awaitsTopic && (isMissing(error) || typeOf(error) === "UNKNOWN_TOPIC_OR_PARTITION"))

const isMissing = (error: unknown) => error instanceof KafkaUnavailable && error.cause instanceof TopicMissing
