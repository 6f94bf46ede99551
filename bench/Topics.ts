import type { IHeaders } from "kafkajs"
import { Kafka, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import { nowMicros, until } from "./Clock.js"
import type { Servers } from "./Stack.js"

export const partitions = 4

/** A record of topic `payment`, and the time of its read. */
export interface Read {
  readonly partition: number
  readonly key: string
  readonly value: string
  readonly headers: IHeaders | undefined
  readonly atMicros: number
}

/** An inventory record of an order. */
export const reservation = (order: number) =>
  `{"idempotent_key":"${randomUUID()}","order_id":${order},"status":"COMPLETED"}`

/** A client of the broker, for the life of the bench. */
export const connect = async ({ brokers, env }: Servers) => {
  const authority = env["KAFKA_TLS_CA"]
  const kafka = new Kafka({
    clientId: "bench",
    brokers: brokers.split(","),
    logLevel: logLevel.NOTHING,
    ...authority === undefined ? {} : { ssl: { ca: readFileSync(authority) } }
  })
  const admin = kafka.admin()
  const producer = kafka.producer({ allowAutoTopicCreation: false })
  await Promise.all([admin.connect(), producer.connect()])

  const ends = async (topic: string) => {
    const offsets = await admin.fetchTopicOffsets(topic)
    return new Map(offsets.map(({ high, partition }) => [partition, Number(high)]))
  }
  const size = async (topic: string) => [...(await ends(topic)).values()].reduce((sum, end) => sum + end, 0)

  const create = async (...topics: ReadonlyArray<string>) => {
    await admin.createTopics({
      topics: topics.map((topic) => ({ topic, numPartitions: partitions })),
      waitForLeaders: false
    })
    await until("topics", 20, () => Promise.all(topics.map(ends)).then(() => true, () => false))
  }

  /** Writes reservations of the orders from `first` on, evenly over the partitions. */
  const reserve = async (topic: string, first: number, count: number) => {
    for (let done = 0; done < count; done += 4_000) {
      const messages = Array.from({ length: Math.min(4_000, count - done) }, (_, i) => ({
        value: reservation(first + done + i),
        partition: (done + i) % partitions
      }))
      await producer.send({ topic, messages })
    }
  }

  const send = (topic: string, value: string) => producer.send({ topic, messages: [{ value }] })

  /** Passes on every record of a topic from the first, until stopped. Returns when it has joined, so that none is late. */
  const follow = async (topic: string, tell: (record: Read) => void) => {
    const consumer = kafka.consumer({ groupId: `bench-${randomUUID()}`, maxWaitTimeInMs: 100 })
    const joined = new Promise<void>((resolve) => consumer.on(consumer.events.GROUP_JOIN, () => resolve()))
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: ({ batch: { messages, partition } }) => {
        const atMicros = nowMicros()
        for (const { headers, key, value } of messages) {
          tell({ partition, key: String(key), value: String(value), headers, atMicros })
        }
        return Promise.resolve()
      }
    })
    await joined
    return () => consumer.disconnect()
  }

  /** All records of a topic, in the order of each partition. */
  const read = async (topic: string, count: number) => {
    const records: Array<Read> = []
    const end = await follow(topic, (record) => records.push(record))
    await until(`${count} records of ${topic}`, 60, () => Promise.resolve(records.length >= count))
    await end()
    return records as ReadonlyArray<Read>
  }

  /** Number of records of a topic that a group has committed. */
  const committed = async (groupId: string, topic: string) => {
    const [found] = await admin.fetchOffsets({ groupId, topics: [topic] })
    return found!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0)
  }

  const close = () => Promise.allSettled([admin.disconnect(), producer.disconnect()])

  return { create, size, reserve, send, follow, read, committed, close }
}

export type Topics = Awaited<ReturnType<typeof connect>>
