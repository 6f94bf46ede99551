import { Effect, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import * as Kafka from "../../src/infra/kafka/KafkaClient.js"
import * as KafkaTail from "../../src/infra/kafka/KafkaTail.js"

/** The brokers of the run. Not a constant: they are known when tests run, not when files load. */
export const kafka = (): Kafka.KafkaOptions => ({ brokers: [inject("kafkaBrokers")], clientId: "test" })

/** A topic of its own: 4 partitions, with the settings given. */
export const freshTopic = Effect.fn(function*(settings: Record<string, string> = {}) {
  const topic = `test-${randomUUID()}`
  yield* Kafka.withAdmin(kafka(), (admin) =>
    Effect.zipRight(
      Kafka.attempt(() =>
        admin.createTopics({
          topics: [{
            topic,
            numPartitions: 4,
            configEntries: Object.entries(settings).map(([name, value]) => ({ name, value }))
          }],
          // kafkajs' own waiting gives up when the broker does not know of it at once
          waitForLeaders: false
        })
      ),
      // by the answers of the leaders: that they are named is not that they know of it
      Kafka.attempt(() => admin.fetchTopicOffsets(topic)).pipe(
        Effect.filterOrFail((partitions) => partitions.length === 4, () => "no leader yet" as const),
        Effect.retry(Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(500))),
        Effect.orDie
      )
    ))
  return topic
})

/** The first `count` records of a topic, each partition in its order. */
export const read = Effect.fn(function*(topic: string, count: number) {
  const tail = yield* KafkaTail.open({ ...kafka(), topic, from: "beginning" })
  return yield* Effect.replicateEffect(tail.take, count).pipe(Effect.timeout("20 seconds"))
}, Effect.scoped)

/** How many records a topic holds. */
export const size = (topic: string) =>
  Kafka.withAdmin(kafka(), (admin) =>
    Effect.map(
      Kafka.attempt(() => admin.fetchTopicOffsets(topic)),
      (partitions) => partitions.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0)
    ))
