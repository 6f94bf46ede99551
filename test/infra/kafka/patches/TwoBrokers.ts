import type { PartitionerArgs } from "kafkajs"
import type { Attempt } from "../../../../src/infra/kafka/KafkaAttempt.js"
import type { OutgoingRecord } from "../../../../src/infra/kafka/KafkaRecord.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { brokerError, logger } from "./Library.js"

const topic = "payment"

interface Produce {
  readonly topicData: ReadonlyArray<
    {
      readonly partitions: ReadonlyArray<
        { readonly partition: number; readonly firstSequence: number; readonly messages: ReadonlyArray<OutgoingRecord> }
      >
    }
  >
}

type Added = readonly [{ readonly partitions: readonly [{ readonly partition: number }] }]

/** One record for each of two partitions. Broker 0 leads partition 0, and broker 1 leads partition 1. */
export const records: ReadonlyArray<OutgoingRecord> = ["to 0", "to 1"].map((value, n) => ({
  topic,
  key: String(n),
  value
}))

/**
 * The producer of a copy of kafkajs, and two brokers that write what they get. With `adding` the producer is in a transaction,
 * and `adding` adds this partition to it.
 */
export const make = async (
  load: Load,
  adding?: (partition: number) => Promise<unknown>,
  /** The leader of each partition now; a negative one is none. */
  leaders: ReadonlyArray<number> = [0, 1]
) => {
  const Broker = load("kafkajs/src/broker") as new(options: object) => { nodeId: number; lookupRequest: unknown }
  const sendMessages = load("kafkajs/src/producer/sendMessages") as (
    options: object
  ) => (batch: object) => Promise<ReadonlyArray<object>>
  const eosManager = load("kafkajs/src/producer/eosManager") as (options: object) => {
    readonly initProducerId: () => Promise<void>
  }
  const retrier = load("kafkajs/src/retry") as (options: object) => unknown

  /** By broker: first sequence number and values of each request. */
  const requests: ReadonlyArray<Array<string>> = [[], []]
  let failures = 0
  /** Requests of broker 0 until its first answer to this `send`. */
  let before = 0
  let release: () => void = () => {}
  /** Ends when kafkajs asks broker 0 again after its failure, or has given up: broker 1 answers only then. */
  let overtaken = Promise.resolve()
  const brokers = [0, 1].map((nodeId) => {
    const produce = async ({ topicData }: Produce) => {
      const { firstSequence, messages, partition } = topicData[0]!.partitions[0]!
      requests[nodeId]!.push(`${firstSequence}: ${messages.map(({ value }) => String(value)).join()}`)
      if (nodeId === 0) {
        if (requests[0]!.length > before) release()
        if (failures-- > 0) throw brokerError(load, 6)
      } else await overtaken
      return { topics: [{ topicName: topic, partitions: [{ partition, errorCode: 0, baseOffset: "7" }] }] }
    }
    const broker = new Broker({
      connectionPool: { send: produce, host: "broker", port: 9092, connectionTimeout: 1 },
      logger
    })
    return Object.assign(broker, { nodeId, lookupRequest: () => (request: Produce) => request })
  })
  const done = () => Promise.resolve()
  const cluster = {
    targetTopics: new Set([topic]),
    retry: {},
    refreshMetadataIfNecessary: done,
    refreshMetadata: done,
    addMultipleTargetTopics: done,
    isConnected: () => true,
    findTopicPartitionMetadata: () => leaders.map((leader, partitionId) => ({ partitionId, leader })),
    // as with the patch Leaderless
    findLeaderForPartitions: () => {
      if (leaders.some((leader) => leader < 0)) throw brokerError(load, 5)
      return { 0: [0], 1: [1] }
    },
    findBroker: ({ nodeId }: { readonly nodeId: string }) => Promise.resolve(brokers[Number(nodeId)]),
    findControllerBroker: () =>
      Promise.resolve({ initProducerId: () => Promise.resolve({ producerId: "1", producerEpoch: 0 }) })
  }
  const idempotent = eosManager({ logger, cluster, transactional: false })
  await idempotent.initProducerId()
  const eos = adding === undefined ? idempotent : {
    ...idempotent,
    isTransactional: () => true,
    addPartitionsToTransaction: ([{ partitions: [{ partition }] }]: Added) => adding(partition)
  }

  return {
    requests,
    /** Writes `records`. Broker 0 answers so many requests with NOT_LEADER_FOR_PARTITION. */
    send: (attempt: Attempt, failing: number): Promise<ReadonlyArray<object>> => {
      failures = failing
      before = requests[0]!.length + 1
      overtaken = failing > 0 ? new Promise((resolve) => (release = resolve)) : Promise.resolve()
      const partitioner = (args: PartitionerArgs) => attempt.partitionOf(args, ({ message }) => Number(message.key))
      return sendMessages({
        logger,
        cluster,
        partitioner,
        eosManager: eos,
        retrier: retrier({ retries: 3, initialRetryTime: 1, maxRetryTime: 2 })
      })({ acks: -1, topicMessages: [{ topic, messages: records }] }).finally(release)
    }
  }
}
