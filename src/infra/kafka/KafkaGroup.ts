import type { Scope } from "effect"
import { Duration, Effect, Schema } from "effect"
import type { Consumer, Kafka } from "kafkajs"
import { PartitionAssigners } from "kafkajs"
import type { Problem } from "../runtime/Problem.js"
import type { KafkaOptions } from "./KafkaClient.js"
import { client, close, KafkaUnavailable, reason, TopicMissing, waitsFor } from "./KafkaClient.js"
import type { Skip } from "./KafkaPositions.js"
import type { Cluster } from "./KafkaTopic.js"
import * as ConsumerGroupSeek from "./patches/ConsumerGroupSeek.js"

/** kafkajs gave up the group or a broker. A new consumer goes on at the committed offsets. */
export class ConsumerCrashed extends Schema.TaggedError<ConsumerCrashed>()("ConsumerCrashed", {
  cause: Schema.Defect
}) {
  get waitsFor() {
    return waitsFor(reason(this.cause))
  }

  override get message() {
    return `the kafka consumer stopped: ${reason(this.cause)}`
  }
}

/** A consumer of one topic, and its group. */
export interface ConsumerOptions extends KafkaOptions {
  readonly groupId: string
  /** The group removes a member without a heartbeat for this time. Work on a batch does not delay heartbeats. */
  readonly sessionTimeout: Duration.Duration
  readonly topic: string
  /** Number of batches that are worked on at the same time. */
  readonly concurrency: number
  /** Time that a stop waits for the batches in progress. */
  readonly drainTimeout: Duration.DurationInput
  /** Runs when the group has assigned partitions, and their positions are known. */
  readonly onJoin?: Effect.Effect<void>
  /** Gets a gap of records that the group will never read. */
  readonly onSkip?: (skip: Skip) => Effect.Effect<void>
  /** Gets the problem of the consumer each second. Without it a missing topic is a failure. */
  readonly onStanding?: (problem: Problem | undefined) => Effect.Effect<void>
}

/** A fifth of the session time, so that some heartbeats may be lost. */
const heartbeatInterval = ({ sessionTimeout }: ConsumerOptions) => Duration.times(sessionTimeout, 0.2)

/** A member of a group. */
export interface Member {
  readonly kafka: Kafka
  readonly consumer: Consumer
  /** Asks the brokers for the partitions of the topic. New partitions make the group rebalance. */
  readonly lookForPartitions: () => Promise<void>
  /** The partitions that had no leader when kafkajs asked last. */
  readonly thinksLeaderless: () => ReadonlyArray<number>
}

/** Makes a member of the group that chooses its own positions, until the scope ends. */
export const member = (options: ConsumerOptions): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.gen(function*() {
    yield* Effect.acquireRelease(
      Effect.sync(() => ConsumerGroupSeek.choosesPositions(options.groupId)),
      (stop) => Effect.sync(stop)
    )
    const kafka = client(options)
    let cluster: Pick<Cluster, "refreshMetadata" | "findTopicPartitionMetadata"> | undefined
    const consumer = yield* Effect.acquireRelease(
      Effect.sync(() =>
        kafka.consumer({
          groupId: options.groupId,
          sessionTimeout: Duration.toMillis(options.sessionTimeout),
          rebalanceTimeout: Duration.toMillis(options.sessionTimeout),
          heartbeatInterval: Duration.toMillis(heartbeatInterval(options)),
          allowAutoTopicCreation: false,
          // a stop and a rebalance wait for the open fetch; records end a fetch at once
          maxWaitTimeInMs: 1_000,
          partitionAssigners: [(parts) => {
            cluster = parts.cluster as unknown as Cluster
            return PartitionAssigners.roundRobin(parts)
          }],
          retry: {
            // waits for a restarting broker as the same member: a new member would wait for the old session
            retries: 10,
            initialRetryTime: 100,
            maxRetryTime: 1_000,
            // the supervisor restarts the consumer after a crash, not kafkajs
            restartOnFailure: () => Promise.resolve(false)
          }
        })
      ),
      // waits for the open fetch, and leaves the group
      (consumer) => close(kafka, consumer, "3 seconds")
    )
    return {
      kafka,
      consumer,
      lookForPartitions: () => cluster?.refreshMetadata() ?? Promise.resolve(),
      thinksLeaderless: () =>
        (cluster?.findTopicPartitionMetadata(options.topic) ?? []).filter(({ leader }) => leader < 0)
          .map(({ partitionId }) => partitionId)
    }
  })

/** The error type of the broker that ended a consumer or kept it from starting. */
const typeOf = (error: unknown) =>
  error instanceof ConsumerCrashed || error instanceof KafkaUnavailable ? reason(error.cause) : ""

/** The group moves to another broker, or its broker has just started. kafkajs does not wait for that when it joins. */
export const isMoving = (error: unknown) =>
  error instanceof ConsumerCrashed &&
  ["GROUP_LOAD_IN_PROGRESS", "GROUP_COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR_FOR_GROUP"].includes(typeOf(error))

class TopicChanged extends Error {}

/** The topic was deleted, and another topic has its name. */
export const topicChanged = (topic: string) =>
  new KafkaUnavailable({ cause: new TopicChanged(`topic ${topic} was deleted and made again`) })

/**
 * The topic is another one, or does not have the next offset any more. The consumer begins anew. With `awaitsTopic` it also
 * begins anew when the topic is missing.
 */
export const hasLostItsPlace = (error: unknown, awaitsTopic: boolean) =>
  (error instanceof KafkaUnavailable && error.cause instanceof TopicChanged) ||
  typeOf(error) === "OFFSET_OUT_OF_RANGE" ||
  (awaitsTopic && (isMissing(error) || typeOf(error) === "UNKNOWN_TOPIC_OR_PARTITION"))

const isMissing = (error: unknown) => error instanceof KafkaUnavailable && error.cause instanceof TopicMissing
