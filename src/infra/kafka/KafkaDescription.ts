import { Clock, Effect, Either } from "effect"
import type { Admin, ConfigResourceTypes } from "kafkajs"
import type { KafkaOptions, KafkaUnavailable } from "./KafkaClient.js"
import { attempt, client, close, reason, withAdmin } from "./KafkaClient.js"
import { untilSettled } from "./KafkaOffsets.js"
import * as KafkaQuorum from "./KafkaQuorum.js"
import { clusterOf } from "./KafkaTopic.js"

/** Settings in effect by name, or the brokers' error for a user who may not read them. */
export type Settings = Either.Either<ReadonlyMap<string, string>, string>

/** A topic as the brokers describe it. */
export interface TopicDescription {
  readonly topic: string
  readonly partitions: ReadonlyArray<{
    readonly id: number
    /** -1: none. */
    readonly leader: number
    readonly replicas: number
    readonly inSync: number
  }>
  readonly settings: Settings
}

export interface Description {
  readonly brokers: number
  /** The topics asked for that exist, and that this user may see. */
  readonly topics: ReadonlyArray<TopicDescription>
  /** Settings of one broker. */
  readonly broker: Settings
  /** State and number of members of the group; the brokers' error for a user who may not see it. Undefined without a group. */
  readonly group: Either.Either<{ readonly state: string; readonly members: number }, string> | undefined
}

/** The enumeration of kafkajs, which Node cannot import by its name. */
const types = { topic: 2 as ConfigResourceTypes, broker: 4 as ConfigResourceTypes }

/** A refusal of the brokers is a result: the user lacks the right. Other failures stay. */
const orRefusal = <A>(f: () => Promise<A>) =>
  Effect.catchIf(
    Effect.map(attempt(f), (answer): Either.Either<A, string> => Either.right(answer)),
    (error) => reason(error.cause).endsWith("_AUTHORIZATION_FAILED"),
    (error) => Effect.succeed<Either.Either<A, string>>(Either.left(reason(error.cause)))
  )

const settingsOf = (admin: Admin, type: ConfigResourceTypes, name: string): Effect.Effect<Settings, KafkaUnavailable> =>
  Effect.map(
    orRefusal(() => admin.describeConfigs({ resources: [{ type, name }], includeSynonyms: false })),
    Either.map(({ resources }) =>
      new Map(resources.flatMap((_) => _.configEntries).map(({ configName, configValue }) => [configName, configValue]))
    )
  )

/** Reads topics, a group and the settings of a broker. Changes nothing. */
export const describe = (options: KafkaOptions, topics: ReadonlyArray<string>, groupId: string | undefined) =>
  withAdmin(options, (admin) =>
    Effect.gen(function*() {
      const { brokers } = yield* attempt(() => admin.describeCluster())
      const existing = yield* attempt(() => admin.listTopics())
      const seen = topics.filter((topic) => existing.includes(topic))
      const { topics: found } = seen.length === 0
        ? { topics: [] }
        : yield* attempt(() => admin.fetchTopicMetadata({ topics: [...seen] }))
      const described = yield* Effect.forEach(found, ({ name, partitions }) =>
        Effect.map(settingsOf(admin, types.topic, name), (settings): TopicDescription => ({
          topic: name,
          settings,
          partitions: partitions.map(({ isr, leader, partitionId, replicas }) => ({
            id: partitionId,
            leader,
            replicas: replicas.length,
            inSync: isr.length
          }))
        })), { concurrency: "unbounded" })
      const broker = yield* settingsOf(admin, types.broker, String(brokers[0]!.nodeId))
      const group = groupId === undefined ? undefined : Either.map(
        yield* orRefusal(() =>
          admin.describeGroups([groupId])
        ),
        ({ groups: [group] }) => ({ state: group!.state, members: group!.members.length })
      )
      return { brokers: brokers.length, topics: described, broker, group } satisfies Description
    })).pipe(untilSettled)

/**
 * How far the clock of this host is ahead of the cluster's active controller, in milliseconds. Left: why the brokers do not
 * tell the time (a version before 3.4, or a user without the right).
 */
export const clockAhead = (options: KafkaOptions) =>
  Effect.gen(function*() {
    const kafka = client(options, 1)
    const cluster = yield* Effect.acquireRelease(
      Effect.sync(() => clusterOf(kafka)),
      (cluster) => close(kafka, cluster, "1 second")
    )
    yield* attempt(() => cluster.connect())
    const broker = yield* attempt(() => cluster.brokerPool.findConnectedBroker())
    const asked = yield* Clock.currentTimeMillis
    const time = yield* orRefusal(() => KafkaQuorum.timeOf(broker))
    const answered = yield* Clock.currentTimeMillis
    return Either.flatMap(time, (time) =>
      time === undefined
        ? Either.left("these brokers do not tell the time: Kafka 3.4 or newer with KRaft does")
        : Either.right((asked + answered) / 2 - time))
  }).pipe(Effect.scoped)
