import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Kafka, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import * as KafkaTopic from "../../../../src/infra/kafka/KafkaTopic.js"
import { patch } from "../../../../src/infra/kafka/patches/AbortedRecords.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { eventually } from "../../../harness/Eventually.js"
import * as KafkaTest from "../../../harness/KafkaTest.js"
import { copy } from "../../../harness/StockKafkajs.js"
import { contract } from "./Library.js"

const clientOf = (load: Load) => {
  const library = load("kafkajs") as {
    readonly Kafka: new(options: object) => Kafka
    readonly logLevel: typeof logLevel
  }
  return new library.Kafka({ brokers: [inject("kafkaBrokers")], logLevel: library.logLevel.NOTHING })
}

/** Waits until partition 0 has so many offsets. */
const untilEnd = (topic: string, offsets: bigint) =>
  KafkaTopic.make(KafkaTest.kafka(), topic, "any").pipe(
    Effect.flatMap(({ look }) =>
      look.pipe(
        Effect.tap(({ ends }) => assert.strictEqual(ends.get(0)?.high, offsets)),
        eventually()
      )
    ),
    Effect.scoped
  )

/** Begins two transactions, and aborts them in the opposite order. Then commits a third. All write to partition 0. */
const write = async () => {
  const topic = await Effect.runPromise(KafkaTest.freshTopic())
  const kafka = clientOf(copy())
  const open = async (value: string) => {
    const producer = kafka.producer({ transactionalId: randomUUID(), idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    const transaction = await producer.transaction()
    await transaction.send({ topic, messages: [{ partition: 0, value }] })
    return { producer, transaction }
  }
  const opened = [await open("aborted last"), await open("aborted first"), await open("committed")]
  await opened[1]!.transaction.abort()
  // the answer to an abort comes before its marker is on the topic
  await Effect.runPromise(untilEnd(topic, 4n))
  await opened[0]!.transaction.abort()
  await opened[2]!.transaction.commit()
  await Promise.all(opened.map(({ producer }) => producer.disconnect()))
  return topic
}

let topic: Promise<string> | undefined

interface Cluster {
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>
  readonly addTargetTopic: (topic: string) => Promise<void>
  readonly findTopicPartitionMetadata: (topic: string) => ReadonlyArray<{ partitionId: number; leader: number }>
  readonly findBroker: (node: { readonly nodeId: number }) => Promise<
    {
      readonly fetch: (
        request: object
      ) => Promise<{ readonly responses: ReadonlyArray<{ readonly partitions: ReadonlyArray<object> }> }>
    }
  >
}

const clusterOf = (kafka: Kafka) => {
  const symbol = Object.getOwnPropertySymbols(kafka).find(({ description }) =>
    description === "private:Kafka:createCluster"
  )
  return (kafka as unknown as Record<symbol, (options: object) => Cluster>)[symbol!]!({})
}

contract(
  "transactions overlap: a read_committed consumer gets aborted records",
  patch,
  { stock: ["aborted last", "committed"], patched: ["committed"] },
  async (load) => {
    const name = await (topic ??= write())
    const cluster = clusterOf(clientOf(load))
    const Batch = load("kafkajs/src/consumer/batch") as new(topic: string, offset: string, partition: object) => {
      readonly messages: ReadonlyArray<{ readonly value: Buffer }>
    }
    await cluster.connect()
    try {
      await cluster.addTargetTopic(name)
      const { leader } = cluster.findTopicPartitionMetadata(name).find(({ partitionId }) => partitionId === 0)!
      const broker = await cluster.findBroker({ nodeId: leader })
      // six offsets: each transaction has a record and a marker
      for (;;) {
        const { responses } = await broker.fetch({
          isolationLevel: 1,
          maxWaitTime: 1_000,
          topics: [{ topic: name, partitions: [{ partition: 0, fetchOffset: "0", maxBytes: 1_000_000 }] }]
        })
        const partition = responses[0]!.partitions[0] as { readonly messages: ReadonlyArray<object> }
        if (partition.messages.length < 6) continue
        return new Batch(name, "0", partition).messages.map(({ value }) => value.toString())
      }
    } finally {
      await cluster.disconnect()
    }
  }
)
