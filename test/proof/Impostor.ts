import { Effect } from "effect"
import { Kafka, logLevel } from "kafkajs"
import { createRequire } from "node:module"
import type { Read } from "../harness/Topics.js"

const Broker = createRequire(import.meta.url)("kafkajs/src/broker") as {
  readonly prototype: { initProducerId: () => Promise<{ readonly producerId: string; readonly producerEpoch: number }> }
}

/** Who wrote a record, as the broker knows them. */
export interface Author {
  readonly producerId: string
  readonly producerEpoch: number
}

/** kafkajs tells it of every record that it reads. */
export const authorOf = (record: Read) => {
  const { producerEpoch, producerId } = (record as unknown as { readonly batchContext: Author }).batchContext
  return { producerId: String(producerId), producerEpoch }
}

/**
 * Writes a record once more where it is, as `author` from its first sequence number on: what the broker knows of that
 * producer in this partition is from now on something else than what the producer itself knows.
 */
export const writeAs = Effect.fnUntraced(function*(brokers: string, topic: string, record: Read, author: Author) {
  const original = Broker.prototype.initProducerId
  yield* Effect.acquireUseRelease(
    Effect.sync(() => {
      Broker.prototype.initProducerId = () => Promise.resolve(author)
      return new Kafka({ clientId: "impostor", brokers: [brokers], logLevel: logLevel.NOTHING })
        .producer({ idempotent: true, maxInFlightRequests: 1 })
    }),
    (producer) =>
      Effect.promise(async () => {
        await producer.connect()
        const { headers, key, partition, value } = record
        await producer.send({ topic, acks: -1, messages: [{ headers, key, partition, value }] })
      }),
    (producer) =>
      Effect.promise(() => {
        Broker.prototype.initProducerId = original
        return producer.disconnect()
      })
  )
})
