import { Effect, Metric } from "effect"
import type { KafkaOptions } from "../infra/Kafka.js"
import * as KafkaProducer from "../infra/KafkaProducer.js"

/** A record that nobody can read, where it came from and why. */
export interface DeadLetter {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: KafkaProducer.OutgoingRecord["headers"]
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly reason: string
}

const sent = Metric.counter("payments_dead_letters_total", {
  description: "Inventory records sent to the dead-letter topic",
  incremental: true
})

/**
 * Sends records to the dead-letter topic as they came, with headers that say why and from where.
 *
 * They are so rare that a producer is made for the batch that has some, and none idles for the others.
 * Fails when the topic has not taken all of them; then they may all be sent again.
 */
export const send = (kafka: KafkaOptions, dlqTopic: string) =>
  Effect.fn("DeadLetters.send")(function*(letters: ReadonlyArray<DeadLetter>) {
    if (letters.length === 0) return
    const producer = yield* KafkaProducer.make(kafka)
    yield* producer.send(
      letters.map(({ headers, key, offset, partition, reason, topic, value }) => ({
        topic: dlqTopic,
        key,
        value,
        headers: {
          ...headers,
          "dlq-reason": reason,
          "dlq-topic": topic,
          "dlq-partition": String(partition),
          "dlq-offset": offset
        }
      })),
      () => true
    )
    yield* Metric.incrementBy(sent, letters.length)
  }, Effect.scoped)
