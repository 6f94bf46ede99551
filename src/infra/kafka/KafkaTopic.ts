import type { Scope } from "effect"
import { Data, Effect } from "effect"
import type { Kafka } from "kafkajs"
import type { KafkaOptions } from "./KafkaClient.js"
import { client, close, KafkaUnavailable, reason, TopicMissing } from "./KafkaClient.js"
import type { Committed, Ends } from "./KafkaPositions.js"
import * as KafkaPositions from "./KafkaPositions.js"
import type { Asked, Named } from "./KafkaTopicName.js"
import { nameOf } from "./KafkaTopicName.js"

interface Broker extends Asked {
  readonly listOffsets: (request: object) => Promise<{
    readonly responses: ReadonlyArray<
      { readonly partitions: ReadonlyArray<{ readonly partition: number; readonly offset: string }> }
    >
  }>
  readonly offsetFetch: (request: object) => Promise<{
    readonly responses: ReadonlyArray<{
      readonly partitions: ReadonlyArray<
        { readonly partition: number; readonly offset: string; readonly metadata: string | null }
      >
    }>
  }>
}

/** The internal client of kafkajs 2.2.4. */
export interface Cluster {
  readonly targetTopics: Set<string>
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>
  readonly refreshMetadata: () => Promise<void>
  readonly findBroker: (node: { readonly nodeId: number }) => Promise<Broker>
  readonly findGroupCoordinator: (group: { readonly groupId: string }) => Promise<Broker>
  readonly findTopicPartitionMetadata: (
    topic: string
  ) => ReadonlyArray<{ readonly partitionId: number; readonly leader: number }>
  readonly brokerPool: { readonly findConnectedBroker: () => Promise<Broker> }
}

/** No public client of kafkajs has the requests that are needed here. Each of its clients has a cluster that does. */
export const clusterOf = (kafka: Kafka): Cluster => {
  const symbol = Object.getOwnPropertySymbols(kafka).find(({ description }) =>
    description === "private:Kafka:createCluster"
  )
  return (kafka as unknown as Record<symbol, (options: object) => Cluster>)[symbol!]!({ allowAutoTopicCreation: false })
}

/** The state of a topic. */
export interface Look {
  /** A deleted and recreated topic has another id. Empty for brokers before 2.8. */
  readonly topicId: string
  readonly partitions: number
  /** Partitions without a leader. Their ends are unknown. */
  readonly leaderless: ReadonlyArray<number>
  readonly ends: ReadonlyMap<number, Ends>
}

/** Requests about a topic and a group, with connections of their own. */
export interface KafkaTopic {
  /** Fails with `TopicMissing` as the cause when the topic does not exist. */
  readonly look: Effect.Effect<Look, KafkaUnavailable>
  readonly committed: (
    partitions: ReadonlyArray<number>
  ) => Effect.Effect<ReadonlyMap<number, Committed>, KafkaUnavailable>
}

/** A request that may be interrupted. Its answer is dropped then. */
class Unanswered extends Data.Error<{ readonly cause: unknown }> {}
const ask = <A>(f: () => Promise<A>) => Effect.tryPromise({ try: f, catch: (cause) => new Unanswered({ cause }) })

/** Requests for the first offset, the end of the readable records, and the end of all records. */
const questions = [
  { isolationLevel: 1, timestamp: -2 },
  { isolationLevel: 1, timestamp: -1 },
  { isolationLevel: 0, timestamp: -1 }
] as const

export const make = (
  options: KafkaOptions,
  topic: string,
  groupId: string
): Effect.Effect<KafkaTopic, never, Scope.Scope> =>
  Effect.gen(function*() {
    const kafka = client(options)
    const cluster = yield* Effect.acquireRelease(
      Effect.sync(() => clusterOf(kafka)),
      (cluster) => close(kafka, cluster, "1 second")
    )
    cluster.targetTopics.add(topic)

    const named = async (): Promise<Named> => {
      await cluster.connect()
      const broker = await cluster.brokerPool.findConnectedBroker()
      const name = nameOf(broker, topic)
      if (name !== undefined) return name
      await cluster.refreshMetadata()
      const partitions = cluster.findTopicPartitionMetadata(topic)
      return { topicId: "", leaders: new Map(partitions.map((_) => [_.partitionId, _.leader])) }
    }

    const brokerOf = (nodeId: number) =>
      cluster.findBroker({ nodeId }).catch(() => cluster.refreshMetadata().then(() => cluster.findBroker({ nodeId })))

    const endsOf = async (nodeId: number, partitions: ReadonlyArray<number>) => {
      const broker = await brokerOf(nodeId)
      const [low, stable, high] = await Promise.all(questions.map(async ({ isolationLevel, timestamp }) => {
        const { responses } = await broker.listOffsets({
          isolationLevel,
          topics: [{ topic, partitions: partitions.map((partition) => ({ partition, timestamp })) }]
        })
        return new Map(responses.flatMap((_) => _.partitions.map(({ offset, partition }) => [partition, offset])))
      }))
      return partitions.map((_) =>
        [_, {
          low: BigInt(low!.get(_)!),
          stable: BigInt(stable!.get(_)!),
          high: BigInt(high!.get(_)!)
        }] as const
      )
    }

    const look = async (): Promise<Look> => {
      const { leaders, topicId } = await named()
      const led = [...leaders].filter(([, leader]) => leader >= 0)
      const nodes = [...new Set(led.map(([, leader]) => leader))]
      const ends = await Promise.all(
        nodes.map((node) => endsOf(node, led.filter(([, leader]) => leader === node).map(([id]) => id)))
      )
      return {
        topicId,
        partitions: leaders.size,
        leaderless: [...leaders].filter(([, leader]) => leader < 0).map(([id]) => id),
        ends: new Map(ends.flat())
      }
    }

    const committed = async (partitions: ReadonlyArray<number>) => {
      await cluster.connect()
      const coordinator = await cluster.findGroupCoordinator({ groupId })
      const { responses } = await coordinator.offsetFetch({
        groupId,
        topics: [{ topic, partitions: partitions.map((partition) => ({ partition })) }]
      })
      return new Map(
        responses.flatMap((_) => _.partitions).flatMap(({ metadata, offset, partition }) =>
          BigInt(offset) < 0n
            ? []
            : [[partition, { offset: BigInt(offset), note: KafkaPositions.read(metadata) }] as const]
        )
      )
    }

    const unavailable = ({ cause }: Unanswered) => new KafkaUnavailable({ cause })
    return {
      look: Effect.mapError(ask(look), (error) =>
        reason(error.cause) === "UNKNOWN_TOPIC_OR_PARTITION"
          ? new KafkaUnavailable({ cause: new TopicMissing({ topic }) })
          : unavailable(error)),
      committed: (partitions) => Effect.mapError(ask(() => committed(partitions)), unavailable)
    }
  })
