import { assert, it } from "@effect/vitest"
import { patch } from "../../../../src/infra/kafka/patches/Coordinators.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { copy } from "../../../harness/StockKafkajs.js"
import { brokerError, contract } from "./Library.js"

interface Cluster {
  readonly findGroupCoordinatorMetadata: (wanted: object) => Promise<unknown>
}

/** A cluster whose brokers count the questions for coordinators. */
const clusterOf = (load: Load) => {
  const { prototype } = load("kafkajs/src/cluster") as { readonly prototype: Cluster }
  let asked = 0
  const broker = {
    findGroupCoordinator: () => {
      asked++
      return asked === 1
        ? Promise.reject(Object.assign(new Error("not now"), { retriable: false }))
        : Promise.resolve({ coordinator: { nodeId: asked } })
    }
  }
  const cluster = Object.assign(Object.create(prototype) as Cluster, {
    brokerPool: { withBroker: (use: (_: { readonly broker: object }) => unknown) => use({ broker }) },
    logger: { debug: () => {} },
    retrier: (use: (bail: (error: Error) => never) => unknown) =>
      use((error) => {
        throw error
      })
  })
  return { cluster, asked: () => asked }
}

const find = ({ cluster }: ReturnType<typeof clusterOf>, coordinatorType: number) =>
  cluster.findGroupCoordinatorMetadata({ groupId: "shard 0", coordinatorType }).catch(() => undefined)

contract(
  "a transaction asks for the same coordinators again and again",
  patch,
  // the first question fails and is asked again; then one each for the transaction and the group of its offsets
  { stock: 9, patched: 3 },
  async (load) => {
    const cluster = clusterOf(load)
    await find(cluster, 1)
    for (let transaction = 0; transaction < 2; transaction++) {
      for (const type of [1, 1, 0, 1]) await find(cluster, type)
    }
    return cluster.asked()
  }
)

contract(
  "a user without rights learns only that there is no coordinator",
  patch,
  { stock: "Failed to find group coordinator", patched: "GROUP_AUTHORIZATION_FAILED" },
  async (load) => {
    const { cluster } = clusterOf(load)
    Object.assign(cluster, {
      brokerPool: {
        // as kafkajs: a failure of the last broker is no failure
        withBroker: (use: (_: object) => Promise<unknown>) =>
          use({ broker: { findGroupCoordinator: () => Promise.reject(brokerError(load, 30)) } }).catch(() => null)
      }
    })
    return cluster.findGroupCoordinatorMetadata({ groupId: "payments", coordinatorType: 0 }).then(
      () => "",
      (error: { readonly type?: string; readonly message: string }) => error.type ?? error.message
    )
  }
)

it("a client without transactions asks each time", async () => {
  const load = copy()
  patch.install(load)
  const cluster = clusterOf(load)
  for (let n = 0; n < 3; n++) await find(cluster, 0)
  assert.strictEqual(cluster.asked(), 3)
})
