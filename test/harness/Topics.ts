import { Effect } from "effect"
import type { IHeaders, Message } from "kafkajs"
import { logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import { eventually } from "./Eventually.js"
import { Kafka } from "./StockKafkajs.js"

/** Kafka's resource types for topics and brokers. kafkajs exports them in its types only. */
const [topicResource, brokerResource] = [2, 4]

/** A client that is independent of the project's own. */
const connect = (brokers: string, ca: string | undefined) =>
  new Kafka({
    clientId: "stranger",
    brokers: brokers.split(","),
    logLevel: logLevel.NOTHING,
    ...(ca === undefined ? {} : { ssl: { ca } })
  })

/** A record of a topic. */
export interface Read {
  readonly partition: number
  readonly offset: string
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: IHeaders
  /** Milliseconds of the epoch. */
  readonly timestamp: string
}

export interface Written {
  readonly partition: number
  readonly offset: string
}

/** Clients of one broker for the life of the scope. With `ca`, the certificate of its authority, they speak TLS. */
export const make = Effect.fnUntraced(function*(brokers: string, ca?: string) {
  const kafka = connect(brokers, ca)
  const [admin, producer] = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const clients = [kafka.admin(), kafka.producer({ allowAutoTopicCreation: false })] as const
      await Promise.all(clients.map((client) => client.connect()))
      return clients
    }),
    (clients) => Effect.promise(() => Promise.allSettled(clients.map((client) => client.disconnect())))
  )

  /** Creates topics of 4 partitions. */
  const create = (...topics: ReadonlyArray<string>) =>
    Effect.promise(() =>
      // the waiting of kafkajs fails when the broker does not know the topics at once
      admin.createTopics({ topics: topics.map((topic) => ({ topic, numPartitions: 4 })), waitForLeaders: false })
    ).pipe(
      Effect.zipRight(
        eventually()(Effect.promise(async () => {
          const metadata = await admin.fetchTopicMetadata({ topics: [...topics] })
          if (metadata.topics.some(({ partitions }) => partitions.some(({ leader }) => leader < 0))) {
            throw new Error("no leader")
          }
        }))
      )
    )

  const existing = Effect.promise(() => admin.listTopics())

  /** Writes records one after the other. Returns their positions. */
  const write = (topic: string, ...messages: ReadonlyArray<Message>) =>
    Effect.promise(async () => {
      const written: Array<Written> = []
      for (const message of messages) {
        const [place] = await producer.send({ topic, messages: [message] })
        written.push({ partition: place!.partition, offset: place!.baseOffset! })
      }
      return written as ReadonlyArray<Written>
    })

  /** Writes records to one partition in one request. Returns the offset of the first. */
  const writeAll = (topic: string, partition: number, messages: ReadonlyArray<Message>) =>
    Effect.promise(async () => {
      const [place] = await producer.send({ topic, messages: messages.map((message) => ({ ...message, partition })) })
      return Number(place!.baseOffset!)
    })

  /** The committed offset of each partition; -1 when none is committed. */
  const committed = (groupId: string, topic: string) =>
    Effect.promise(async () => {
      const [offsets] = await admin.fetchOffsets({ groupId, topics: [topic] })
      return new Map(offsets!.partitions.map(({ offset, partition }) => [partition, Number(offset)]))
    })

  /** All consumer groups of the broker. */
  const groups = Effect.promise(async () => (await admin.listGroups()).groups.map(({ groupId }) => groupId))

  const members = (groupId: string) =>
    Effect.promise(async () => (await admin.describeGroups([groupId])).groups[0]!.members.length)

  const remove = (topic: string) => Effect.promise(() => admin.deleteTopics({ topics: [topic] }))

  /** Raises the number of partitions to `count`. */
  const grow = (topic: string, count: number) =>
    Effect.promise(() => admin.createPartitions({ topicPartitions: [{ topic, count }] }))

  const alter = (type: number) => (resource: string, name: string, value: string, others = {}) =>
    Effect.promise(() =>
      admin.alterConfigs({
        validateOnly: false,
        resources: [{
          type,
          name: resource,
          configEntries: Object.entries<string>({ ...others, [name]: value }).map(([name, value]) => ({ name, value }))
        }]
      })
    )
  /** Changes a setting of a topic, and `others`. All that are not named get their default again. */
  const configure = alter(topicResource)
  /** Changes a setting of a broker. */
  const configureBroker = alter(brokerResource)

  const ends = (topic: string) => Effect.promise(() => admin.fetchTopicOffsets(topic))

  /** Reads a topic from its first record. The returned array grows. */
  const follow = (topic: string) =>
    Effect.gen(function*() {
      const records: Array<Read> = []
      const consumer = yield* Effect.acquireRelease(
        Effect.sync(() => kafka.consumer({ groupId: `stranger-${randomUUID()}`, maxWaitTimeInMs: 100 })),
        (consumer) => Effect.promise(() => consumer.disconnect())
      )
      yield* Effect.promise(async () => {
        await consumer.connect()
        await consumer.subscribe({ topics: [topic], fromBeginning: true })
        await consumer.run({
          eachMessage: ({ message: { headers = {}, ...message }, partition }) => {
            records.push({ ...message, partition, headers })
            return Promise.resolve()
          }
        })
      })
      return records as ReadonlyArray<Read>
    })

  return {
    create,
    existing,
    write,
    writeAll,
    committed,
    groups,
    members,
    ends,
    remove,
    grow,
    configure,
    configureBroker,
    follow
  } as const
})

export type Topics = Effect.Effect.Success<ReturnType<typeof make>>

/** An inventory record, as the service that reserves stock writes it. */
export const reserved = (orderId: bigint | number, key: string = randomUUID(), status = "COMPLETED") =>
  `{"idempotent_key":"${key}","order_id":${orderId},"status":"${status}"}`

/** The body of a record of topic `payment`, for order ids up to 2^53. */
export const body = (record: Read) =>
  JSON.parse(record.value!.toString()) as {
    readonly idempotent_key: string
    readonly order_id: number
    readonly status: string
  }
