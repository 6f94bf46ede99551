import { patch } from "../../../../src/infra/kafka/patches/NewGroups.js"
import { brokerError, contract } from "./Library.js"

interface OffsetManager {
  readonly resolveOffsets: () => Promise<void>
  readonly committedOffsets: () => Readonly<Record<string, object>>
}

interface Partition {
  readonly partition: number
}

const topic = "inventory"
const leaderNotAvailable = 5

contract(
  "a new group, and one partition has no leader: the member finds no position",
  patch,
  {
    stock: ["LEADER_NOT_AVAILABLE", {}, undefined, { 0: "10", 1: "11" }] as ReadonlyArray<unknown>,
    patched: [undefined, { 0: "10" }, undefined, { 0: "10", 1: "11" }]
  },
  async (load) => {
    let leader = -1
    const committed = {}
    const cluster = {
      committedOffsets: () => committed,
      findTopicPartitionMetadata: () => [{ partitionId: 0, leader: 1 }, { partitionId: 1, leader }],
      // as with the patch Leaderless: a request for another partition fails
      fetchTopicsOffset: ([{ partitions }]: readonly [{ readonly partitions: ReadonlyArray<Partition> }]) =>
        leader < 0 && partitions.some(({ partition }) => partition === 1)
          ? Promise.reject(brokerError(load, leaderNotAvailable))
          : Promise.resolve([{ topic, partitions: partitions.map((_) => ({ ..._, offset: `1${_.partition}` })) }])
    }
    const coordinator = {
      isConnected: () => true,
      offsetFetch: (
        { topics }: { readonly topics: ReadonlyArray<{ readonly partitions: ReadonlyArray<Partition> }> }
      ) =>
        Promise.resolve({
          responses: topics.map(({ partitions }) => ({
            topic,
            partitions: partitions.map((_) => ({ ..._, offset: "-1" }))
          }))
        })
    }
    const Offsets = load("kafkajs/src/consumer/offsetManager") as new(options: object) => OffsetManager
    const offsets = new Offsets({
      cluster,
      coordinator,
      groupId: "payments",
      memberAssignment: { [topic]: [0, 1] },
      topicConfigurations: { [topic]: { fromBeginning: true } }
    })
    const resolve = () => offsets.resolveOffsets().then(() => undefined, ({ type }: { readonly type?: string }) => type)
    const found = () => ({ ...offsets.committedOffsets()[topic] })
    const without = [await resolve(), found()]
    leader = 2
    return [...without, await resolve(), found()]
  }
)
