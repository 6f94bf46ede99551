import { assert, it } from "@effect/vitest"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { patch } from "../../../../src/infra/kafka/patches/TransactionMarkers.js"
import { copy } from "../../../harness/StockKafkajs.js"
import { brokerError, contract, logger } from "./Library.js"

const methods = ["addPartitionsToTxn", "addOffsetsToTxn"] as const

type Broker = Record<(typeof methods)[number], (request: object) => Promise<unknown>> & { lookupRequest: unknown }

const concurrentTransactions = 51

/** A broker that answers the first `refusals` requests with CONCURRENT_TRANSACTIONS. */
const brokerOf = (load: Load, refusals: number) => {
  const Broker = load("kafkajs/src/broker") as new(options: object) => Broker
  const sent: Array<object> = []
  const send = (request: object) => {
    sent.push(request)
    return sent.length <= refusals
      ? Promise.reject(brokerError(load, concurrentTransactions))
      : Promise.resolve("added")
  }
  const broker = new Broker({ connectionPool: { send, host: "broker", port: 9092, connectionTimeout: 1 }, logger })
  broker.lookupRequest = () => (request: object) => request
  return { broker, sent }
}

for (const method of methods) {
  contract(
    `${method} fails while brokers write the markers of the last transaction`,
    patch,
    { stock: "CONCURRENT_TRANSACTIONS after 1 request", patched: "added after 3 requests" },
    async (load) => {
      const { broker, sent } = brokerOf(load, 2)
      const result = await broker[method]({}).catch((error: { readonly type: string }) => error.type)
      return `${String(result)} after ${sent.length} request${sent.length === 1 ? "" : "s"}`
    }
  )
}

it("other errors are not repeated, and one request at a time repeats", async () => {
  const load = copy()
  patch.install(load)
  const { broker, sent } = brokerOf(load, 2)
  const topics = (topic: string) => ({ topics: [{ topic, partitions: [0] }] })
  await Promise.all(["a", "b"].map((topic) => broker.addPartitionsToTxn(topics(topic))))
  assert.deepStrictEqual(
    sent.map((request) => (request as ReturnType<typeof topics>).topics[0]!.topic),
    ["a", "a", "a", "b"]
  )
  broker.lookupRequest = () => () => {
    throw brokerError(load, 47)
  }
  const error = await broker.addOffsetsToTxn({}).catch((error: { readonly type: string }) => error)
  assert.strictEqual((error as { readonly type: string }).type, "INVALID_PRODUCER_EPOCH")
})
