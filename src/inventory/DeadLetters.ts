import { Effect, Metric } from "effect"
import type { KafkaOptions } from "../infra/Kafka.js"
import type { IncomingHeaders } from "../infra/KafkaConsumer.js"
import { writable } from "../infra/KafkaNullHeader.js"
import * as KafkaProducer from "../infra/KafkaProducer.js"

/** A record that nobody can read, where it came from and why. */
export interface DeadLetter {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: IncomingHeaders | undefined
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly reason: string
}

const sent = Metric.counter("payments_dead_letters_total", {
  description: "Inventory records sent to the dead-letter topic",
  incremental: true
})

const toRecord = ({ headers, key, offset, partition, reason, topic, value }: DeadLetter, dlqTopic: string) => ({
  topic: dlqTopic,
  key,
  value,
  headers: {
    ...writable(headers),
    "dlq-reason": reason,
    "dlq-topic": topic,
    "dlq-partition": String(partition),
    "dlq-offset": offset
  }
})

/** What a request carries at the most, in bytes of values: a broker takes 1 MiB for each partition by default. */
const requestBytes = 512 * 1024

/** Cuts letters into requests. One that is larger goes alone. */
const inRequests = (letters: ReadonlyArray<DeadLetter>): ReadonlyArray<ReadonlyArray<DeadLetter>> => {
  const requests: Array<Array<DeadLetter>> = []
  let bytes = Infinity
  for (const letter of letters) {
    const size = (letter.value?.length ?? 0) + (letter.key?.length ?? 0)
    if (bytes + size > requestBytes) {
      requests.push([])
      bytes = 0
    }
    requests.at(-1)!.push(letter)
    bytes += size
  }
  return requests
}

/**
 * Sends records to the dead-letter topic as they came, with headers that say why and from where.
 *
 * They are so rare that a producer is made for the batch that has some, and none idles for the others.
 * Fails when the topic has not taken all of them; then they may all be sent again.
 */
export const send = (kafka: KafkaOptions, dlqTopic: string) =>
  Effect.fn("DeadLetters.send")(function*(letters: ReadonlyArray<DeadLetter>) {
    const producer = yield* KafkaProducer.make(kafka)
    for (const batch of inRequests(letters)) {
      yield* producer.send(batch.map((letter) => toRecord(letter, dlqTopic)), () => true)
    }
    yield* Metric.incrementBy(sent, letters.length)
  }, Effect.scoped)
