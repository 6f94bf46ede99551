import { assert } from "@effect/vitest"
import { patch } from "../../../../src/infra/kafka/patches/Leaderless.js"
import { contract } from "./Library.js"

interface Partition {
  readonly partitionErrorCode: number
  readonly partitionId: number
  readonly leader: number
}

interface Metadata {
  readonly topicMetadata: ReadonlyArray<{
    readonly topicErrorCode: number
    readonly topic: string
    readonly partitionMetadata: ReadonlyArray<Partition>
  }>
}

interface Cluster {
  readonly findLeaderForPartitions: (topic: string, partitions: ReadonlyArray<number>) => object
}

const led = (partitionId: number) => ({ partitionErrorCode: 0, partitionId, leader: 1 })
const unled = (partitionId: number) => ({ partitionErrorCode: 5, partitionId, leader: -1 })

contract(
  "one partition has no leader: the leaders of the others are unknown",
  patch,
  {
    stock: ["LEADER_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE"],
    patched: [`{"1":[0]}`, "LEADER_NOT_AVAILABLE", "LEADER_NOT_AVAILABLE"]
  },
  async (load) => {
    const { protocol } = load("kafkajs/src/protocol/requests/metadata") as {
      readonly protocol: (_: { readonly version: number }) => (args: object) => {
        readonly response: { readonly parse: (data: Metadata) => Promise<Metadata> }
      }
    }
    const { prototype } = load("kafkajs/src/cluster") as { readonly prototype: Cluster }
    const find = async (partitionMetadata: ReadonlyArray<Partition>, partitions: ReadonlyArray<number>) => {
      const { response } = protocol({ version: 6 })({ topics: ["payment"] })
      const metadata = await response.parse({
        topicMetadata: [{ topicErrorCode: 0, topic: "payment", partitionMetadata }]
      })
      const cluster = Object.assign(Object.create(prototype) as Cluster, { brokerPool: { metadata } })
      return JSON.stringify(cluster.findLeaderForPartitions("payment", partitions))
    }
    const types = (asked: Promise<string>) => asked.catch(({ type }: { readonly type?: string }) => type)
    assert.strictEqual(await find([led(0), led(1)], [0, 1]), `{"1":[0,1]}`)
    return Promise.all([
      types(find([led(0), unled(1)], [0])),
      types(find([led(0), unled(1)], [0, 1])),
      // as while a topic is made
      types(find([unled(0), unled(1)], [0]))
    ])
  }
)
