import { createRequire } from "node:module"
import type { Asked } from "./KafkaTopicName.js"

interface Decoder {
  readonly readInt16: () => number
  readonly readInt32: () => number
  readonly readInt64: () => { readonly toString: () => string }
  readonly readUVarIntString: () => string | null
  readonly readUVarIntArray: <A>(read: (decoder: Decoder) => A) => Array<A> | null
  readonly readTaggedFields: () => unknown
}

interface Encoder {
  readonly writeInt32: (value: number) => Encoder
  readonly writeUVarInt: (value: number) => Encoder
  readonly writeUVarIntString: (value: string) => Encoder
}

const require = createRequire(import.meta.url)
const { createErrorFromCode } = require("kafkajs/src/protocol/error") as {
  readonly createErrorFromCode: (code: number) => Error
}
const { Decoder, Encoder } = {
  Decoder: require("kafkajs/src/protocol/decoder") as new(data: Buffer) => Decoder,
  Encoder: require("kafkajs/src/protocol/encoder") as new() => Encoder
}

const describeQuorum = { apiKey: 55, apiVersion: 1 }

/** The log of the controllers. */
const log = { topic: "__cluster_metadata", partition: 0 }

const readTime = (data: Buffer): { readonly error: number; readonly time: number | undefined } => {
  const decoder = new Decoder(data)
  decoder.readTaggedFields()
  const error = decoder.readInt16()
  const replicas = (partition: Decoder) =>
    partition.readUVarIntArray((replica) => {
      const id = replica.readInt32()
      replica.readInt64()
      replica.readInt64()
      const caughtUp = Number(replica.readInt64().toString())
      replica.readTaggedFields()
      return { id, caughtUp }
    }) ?? []
  const topics = decoder.readUVarIntArray((topic) => {
    topic.readUVarIntString()
    const partitions = topic.readUVarIntArray((partition) => {
      partition.readInt32()
      const error = partition.readInt16()
      const leader = partition.readInt32()
      partition.readInt32()
      partition.readInt64()
      const voters = replicas(partition)
      replicas(partition)
      partition.readTaggedFields()
      return { error, time: voters.find(({ id }) => id === leader)?.caughtUp }
    })
    topic.readTaggedFields()
    return partitions?.[0]
  })
  return error !== 0 ? { error, time: undefined } : topics?.[0] ?? { error: 0, time: undefined }
}

/**
 * The time of the active controller, in milliseconds of the epoch: it answers with its own clock when it last caught up with
 * itself. Undefined for brokers that do not know the request. Fails with the error type of the broker.
 *
 * https://kafka.apache.org/protocol#The_Messages_DescribeQuorum, version 1
 */
export const timeOf = async (broker: Asked): Promise<number | undefined> => {
  if ((broker.versions[describeQuorum.apiKey]?.maxVersion ?? 0) < describeQuorum.apiVersion) return undefined
  const answer = await broker.connectionPool.send({
    request: {
      ...describeQuorum,
      apiName: "DescribeQuorum",
      encode: () => {
        const encoder = new Encoder()
        // the header's fields, then an array of one topic with one partition
        encoder.writeUVarInt(0).writeUVarInt(2).writeUVarIntString(log.topic).writeUVarInt(2).writeInt32(log.partition)
        encoder.writeUVarInt(0).writeUVarInt(0).writeUVarInt(0)
        return Promise.resolve(encoder)
      }
    },
    response: {
      decode: (data: Buffer) => Promise.resolve(readTime(data)),
      parse: (data: unknown) => Promise.resolve(data)
    }
  }) as ReturnType<typeof readTime>
  if (answer.error !== 0) throw createErrorFromCode(answer.error)
  return answer.time
}
