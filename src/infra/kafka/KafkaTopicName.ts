import { createRequire } from "node:module"

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

const require = createRequire(import.meta.url)
const { createErrorFromCode } = require("kafkajs/src/protocol/error") as {
  readonly createErrorFromCode: (code: number) => Error
}
const { Decoder, Encoder } = {
  Decoder: require("kafkajs/src/protocol/decoder") as new(data: Buffer) => Decoder,
  Encoder: require("kafkajs/src/protocol/encoder") as new() => Encoder
}

/** The id of a topic (since version 11 of the request), and its leaders by partition. */
export interface Named {
  readonly topicId: string
  readonly leaders: ReadonlyMap<number, number>
}

const metadata = { apiKey: 3, apiVersion: 11 }

/** A broker of kafkajs 2.2.4. The library itself uses older versions of the request. */
export interface Asked {
  readonly versions: Readonly<Record<number, { readonly maxVersion: number } | undefined>>
  readonly connectionPool: { readonly send: (protocol: object) => Promise<unknown> }
}

/** Asks for the id and the leaders of a topic. Undefined for brokers before 2.8. Fails with the error type of the broker. */
export const nameOf = (broker: Asked, topic: string): Promise<Named> | undefined =>
  (broker.versions[metadata.apiKey]?.maxVersion ?? 0) < metadata.apiVersion ? undefined : askName(broker, topic)

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
const askName = async (broker: Asked, topic: string): Promise<Named> => {
  const answer = await broker.connectionPool.send({
    request: {
      ...metadata,
      apiName: "Metadata",
      encode: () => {
        const encoder = new Encoder()
        encoder.writeUVarInt(0).writeUVarInt(2)
        encoder.writeBufferInternal(Buffer.alloc(16))
        // does not create the topic, and does not ask for permissions
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
