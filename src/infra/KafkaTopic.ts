import type { Scope } from "effect"
import { Data, Effect } from "effect"
import type { Kafka } from "kafkajs"
import { createRequire } from "node:module"
import type { KafkaOptions } from "./Kafka.js"
import { client, close, KafkaUnavailable, reason, TopicMissing } from "./Kafka.js"
import type { Committed, Ends } from "./KafkaPlaces.js"
import * as KafkaPlaces from "./KafkaPlaces.js"

interface Decoder {
  readonly readInt8: () => number
  readonly readInt16: () => number
  readonly readInt32: () => number
  readonly readUVarInt: () => number
  readonly readUVarIntString: () => string | null
  readonly readUVarIntArray: <A>(read: (decoder: Decoder) => A) => Array<A> | null
  readonly readBytes: (length: number) => Buffer
  readonly readTaggedFields: () => unknown
}

interface Encoder {
  readonly writeInt8: (value: number) => Encoder
  readonly writeUVarInt: (value: number) => Encoder
  readonly writeUVarIntString: (value: string) => Encoder
  readonly writeBufferInternal: (value: Buffer) => void
}

interface Broker {
  readonly versions: Readonly<Record<number, { readonly maxVersion: number } | undefined>>
  readonly connectionPool: { readonly send: (protocol: object) => Promise<unknown> }
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

/** What kafkajs 2.2.4 keeps behind its clients. */
interface Cluster {
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

const require = createRequire(import.meta.url)
const { createErrorFromCode } = require("kafkajs/src/protocol/error") as {
  readonly createErrorFromCode: (code: number) => Error
}
const { Decoder, Encoder } = {
  Decoder: require("kafkajs/src/protocol/decoder") as new(data: Buffer) => Decoder,
  Encoder: require("kafkajs/src/protocol/encoder") as new() => Encoder
}

/** kafkajs offers no client that asks what is asked here, but each of its clients is made of a cluster. */
const clusterOf = (kafka: Kafka): Cluster => {
  const symbol = Object.getOwnPropertySymbols(kafka).find(({ description }) =>
    description === "private:Kafka:createCluster"
  )
  return (kafka as unknown as Record<symbol, (options: object) => Cluster>)[symbol!]!({ allowAutoTopicCreation: false })
}

/** A topic as a broker names it: since version 11 of the request with an id, another one for each topic of that name. */
interface Named {
  readonly topicId: string
  readonly leaders: ReadonlyMap<number, number>
}

const metadata = { apiKey: 3, apiVersion: 11 }

const readTopic = (data: Buffer) => {
  const decoder = new Decoder(data)
  decoder.readTaggedFields()
  decoder.readInt32()
  decoder.readUVarIntArray((broker) => {
    broker.readInt32()
    broker.readUVarIntString()
    broker.readInt32()
    broker.readUVarIntString()
    broker.readTaggedFields()
  })
  decoder.readUVarIntString()
  decoder.readInt32()
  const topics = decoder.readUVarIntArray((topic) => {
    const error = topic.readInt16()
    topic.readUVarIntString()
    const topicId = topic.readBytes(16).toString("hex")
    topic.readInt8()
    const nodes = () => topic.readUVarIntArray((_) => _.readInt32())
    const partitions = topic.readUVarIntArray((partition) => {
      partition.readInt16()
      const [id, leader] = [partition.readInt32(), partition.readInt32()]
      partition.readInt32()
      for (const _ of ["replicas", "in sync", "offline"]) nodes()
      partition.readTaggedFields()
      return [id, leader] as const
    })
    topic.readInt32()
    topic.readTaggedFields()
    return { error, topicId, leaders: new Map(partitions) }
  })
  return topics![0]!
}

/** https://kafka.apache.org/protocol#The_Messages_Metadata, version 11 */
const namedBy = async (broker: Broker, topic: string): Promise<Named> => {
  const answer = await broker.connectionPool.send({
    request: {
      ...metadata,
      apiName: "Metadata",
      encode: () => {
        const encoder = new Encoder()
        encoder.writeUVarInt(0).writeUVarInt(2)
        encoder.writeBufferInternal(Buffer.alloc(16))
        // neither creates the topic nor asks who may use it
        encoder.writeUVarIntString(topic).writeUVarInt(0).writeInt8(0).writeInt8(0).writeUVarInt(0)
        return Promise.resolve(encoder)
      }
    },
    response: {
      decode: (data: Buffer) => Promise.resolve(readTopic(data)),
      parse: (data: unknown) => Promise.resolve(data)
    }
  }) as ReturnType<typeof readTopic>
  if (answer.error !== 0) throw createErrorFromCode(answer.error)
  return answer
}

/** What the brokers tell of a topic now. */
export interface Look {
  /** Empty from brokers before 2.8. */
  readonly topicId: string
  readonly partitions: number
  /** Partitions that nobody leads, and of which nothing else is known. */
  readonly leaderless: ReadonlyArray<number>
  readonly ends: ReadonlyMap<number, Ends>
}

/** Asks about a topic and a group, with connections of its own. */
export interface KafkaTopic {
  /** A topic that does not exist is a `TopicMissing` as the cause. */
  readonly look: Effect.Effect<Look, KafkaUnavailable>
  readonly committed: (
    partitions: ReadonlyArray<number>
  ) => Effect.Effect<ReadonlyMap<number, Committed>, KafkaUnavailable>
}

/** A question that may be left: its answer is then nobody's. */
class Unanswered extends Data.Error<{ readonly cause: unknown }> {}
const ask = <A>(f: () => Promise<A>) => Effect.tryPromise({ try: f, catch: (cause) => new Unanswered({ cause }) })

/** The first offset that is there, and the one after the last: of what may be read, and of all. */
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
      if ((broker.versions[metadata.apiKey]?.maxVersion ?? 0) >= metadata.apiVersion) return namedBy(broker, topic)
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
      return new Map(responses.flatMap((_) => _.partitions).flatMap(({ metadata, offset, partition }) =>
        BigInt(offset) < 0n
          ? []
          : [[partition, { offset: BigInt(offset), note: KafkaPlaces.read(metadata) }] as const]
      ))
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
