import { Effect, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import * as Kafka from "../../src/infra/kafka/KafkaClient.js"
import * as KafkaTail from "../../src/infra/kafka/KafkaTail.js"

/** The brokers of the test run, which are known when tests run, not when files load. */
export const kafka = (): Kafka.KafkaOptions => ({ brokers: [inject("kafkaBrokers")], clientId: "test" })

/** Creates a topic with 4 partitions and these settings. */
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
          // the waiting of kafkajs fails when the broker does not know the topic at once
          waitForLeaders: false
        })
      ),
      // asks the leaders: a leader may be named before it knows the topic
      Kafka.attempt(() => admin.fetchTopicOffsets(topic)).pipe(
        Effect.filterOrFail((partitions) => partitions.length === 4, () => "no leader yet" as const),
        Effect.retry(Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(500))),
        Effect.orDie
      )
    ))
  return topic
})

/** The first `count` records of a topic, in the order of each partition. */
export const read = Effect.fn(function*(topic: string, count: number) {
  const tail = yield* KafkaTail.open({ ...kafka(), topic, from: "beginning" })
  return yield* Effect.replicateEffect(tail.take, count).pipe(Effect.timeout("20 seconds"))
}, Effect.scoped)

/** Number of records of a topic. */
export const size = (topic: string) =>
  Kafka.withAdmin(kafka(), (admin) =>
    Effect.map(
      Kafka.attempt(() => admin.fetchTopicOffsets(topic)),
      (partitions) => partitions.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0)
    ))
