import { Effect } from "effect"
import type { Message } from "kafkajs"
import { Kafka, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"

const connect = (brokers: string) =>
  new Kafka({ clientId: "stranger", brokers: brokers.split(","), logLevel: logLevel.NOTHING })

/** Writes records in one transaction, which leaves a control record at the end of each partition. */
export const transaction = (
  brokers: string,
  topic: string,
  messages: ReadonlyArray<Message>,
  end: "commit" | "abort"
) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const producer = connect(brokers).producer({
        transactionalId: randomUUID(),
        idempotent: true,
        maxInFlightRequests: 1
      })
      await producer.connect()
      return producer
    }),
    (producer) =>
      Effect.promise(async () => {
        const transaction = await producer.transaction()
        await transaction.send({ topic, messages: [...messages] })
        await transaction[end]()
      }),
    (producer) => Effect.promise(() => producer.disconnect())
  )

const withAdmin = <A>(brokers: string, use: (admin: ReturnType<Kafka["admin"]>) => Promise<A>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const admin = connect(brokers).admin()
      await admin.connect()
      return admin
    }),
    (admin) => Effect.promise(() => use(admin)),
    (admin) => Effect.promise(() => admin.disconnect())
  )

/** Commits an offset for a group that has no members. */
export const commit = (brokers: string, groupId: string, topic: string, partition: number, offset: number) =>
  withAdmin(
    brokers,
    (admin) => admin.setOffsets({ groupId, topic, partitions: [{ partition, offset: String(offset) }] })
  )

/** Deletes the records of a partition before an offset, as retention does. */
export const trim = (brokers: string, topic: string, partition: number, offset: number) =>
  withAdmin(brokers, async (admin) => {
    // kafkajs knows the leader only of topics that it was asked for
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
  })

/** The groups of the broker. */
export const groups = (brokers: string) =>
  withAdmin(brokers, async (admin) => (await admin.listGroups()).groups.map(({ groupId }) => groupId))
