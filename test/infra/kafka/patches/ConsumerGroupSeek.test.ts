import { onTestFinished, vi } from "vitest"
import { choosesPositions, patch } from "../../../../src/infra/kafka/patches/ConsumerGroupSeek.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { contract, logger } from "./Library.js"

interface ConsumerGroup {
  generationId: number
  offsetManager: object
  retrier: () => Promise<void>
  readonly subscriptionState: { readonly assign: (partitions: ReadonlyArray<object>) => void }
  readonly pause: (partitions: ReadonlyArray<object>) => void
  readonly resume: (partitions: ReadonlyArray<object>) => void
  readonly fetch: (nodeId: number) => Promise<unknown>
  readonly recoverFromFetch: (error: Error) => Promise<void>
}

const [topic, groupId] = ["inventory", "payments"]
const partitions = [{ topic, partitions: [0] }]

/** A member of a group that reads partition 0 from its first record. `did` is what it did. */
const memberOf = (load: Load) => {
  const did: Array<string> = []
  const done = () => Promise.resolve()
  const cluster = {
    refreshMetadataIfNecessary: done,
    refreshMetadata: done,
    committedOffsets: () => ({}),
    defaultOffset: () => "-2",
    findTopicPartitionMetadata: () => [{ partitionId: 0, leader: 1 }],
    findBroker: () =>
      Promise.resolve({
        fetch: () => {
          did.push("fetched")
          return Promise.resolve({ responses: [] })
        }
      })
  }
  const ConsumerGroup = load("kafkajs/src/consumer/consumerGroup") as new(options: object) => ConsumerGroup
  const OffsetManager = load("kafkajs/src/consumer/offsetManager") as new(options: object) => object
  const group = new ConsumerGroup({
    cluster,
    groupId,
    topics: [topic],
    logger,
    instrumentationEmitter: { emit: (event: string) => did.push(event) },
    maxWaitTimeInMs: 60_000
  })
  group.generationId = 3
  group.retrier = done
  group.subscriptionState.assign(partitions)
  const coordinator = {
    isConnected: () => true,
    offsetCommit: (
      { topics }: { readonly topics: ReadonlyArray<{ partitions: ReadonlyArray<{ offset: string }> }> }
    ) => {
      did.push(`committed ${topics[0]!.partitions[0]!.offset}`)
      return Promise.resolve()
    },
    offsetFetch: () => Promise.resolve({ responses: [{ topic, partitions: [{ partition: 0, offset: "5" }] }] })
  }
  group.offsetManager = new OffsetManager({
    cluster,
    coordinator,
    groupId,
    generationId: 3,
    memberAssignment: { [topic]: [0] },
    topicConfigurations: { [topic]: { fromBeginning: true } },
    instrumentationEmitter: { emit: () => {} }
  })
  return { group, did }
}

contract(
  "a paused consumer is resumed: it fetches only after the time of a whole fetch",
  patch,
  { stock: [] as ReadonlyArray<string>, patched: ["fetched"] },
  async (load) => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const { did, group } = memberOf(load)
    group.pause(partitions)
    const fetching = group.fetch(1)
    await vi.advanceTimersByTimeAsync(1)
    group.resume(partitions)
    await vi.advanceTimersByTimeAsync(1)
    const found = [...did]
    await vi.advanceTimersByTimeAsync(60_000)
    await fetching
    return found
  }
)

contract(
  "an offset is out of range: the consumer commits -2 and goes on",
  patch,
  {
    stock: { did: ["committed -2"], error: undefined as string | undefined },
    patched: { did: [] as Array<string>, error: "KafkaJSOffsetOutOfRange" }
  },
  async (load) => {
    onTestFinished(choosesPositions(groupId))
    const { did, group } = memberOf(load)
    const { KafkaJSOffsetOutOfRange } = load("kafkajs/src/errors") as {
      readonly KafkaJSOffsetOutOfRange: new(error: Error, where: object) => Error
    }
    const error = new KafkaJSOffsetOutOfRange(new Error("out of range"), { topic, partition: 0 })
    const failed = await group.recoverFromFetch(error).then(() => undefined, ({ name }: Error) => name)
    return { did, error: failed }
  }
)

contract(
  "the topic has new partitions: the member joins again and emits no REBALANCING",
  patch,
  { stock: [] as ReadonlyArray<string>, patched: ["consumer.rebalancing"] },
  async (load) => {
    const { did, group } = memberOf(load)
    await group.recoverFromFetch(Object.assign(new Error("new"), { name: "KafkaJSStaleTopicMetadataAssignment" }))
    return did
  }
)
