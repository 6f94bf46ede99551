import { assert, it } from "@effect/vitest"
import { onTestFinished, vi } from "vitest"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { patch } from "../../../../src/infra/kafka/patches/RequestTimeouts.js"
import { copy } from "../../../harness/StockKafkajs.js"
import { contract, logger } from "./Library.js"

interface Queue {
  readonly requestTimeoutIntervalId: NodeJS.Timeout | undefined
  readonly scheduleRequestTimeoutCheck: () => void
  readonly destroy: () => void
  readonly maybeThrottle: (millis: number) => void
  readonly push: (request: object) => void
  readonly fulfillRequest: (response: object) => void
}

/** The requests of a connection that has just been opened. Requests time out after 30 ms. */
const make = (load: Load) => {
  const RequestQueue = load("kafkajs/src/network/requestQueue") as new(options: object) => Queue
  const queue = new RequestQueue({
    maxInFlightRequests: null,
    requestTimeout: 30,
    enforceRequestTimeout: true,
    logger
  })
  queue.scheduleRequestTimeoutCheck()
  return queue
}

/** Sends a request. Calls `over` with its id when it times out. */
const ask = (queue: Queue, correlationId: number, over: (id: number) => void, requestTimeout = 30) =>
  queue.push({
    requestTimeout,
    entry: {
      correlationId,
      resolve: () => {},
      reject: ({ name }: Error) => over(name === "KafkaJSRequestTimeoutError" ? correlationId : -1)
    },
    expectResponse: true,
    sendRequest: () => {}
  })

const withFakeTime = () => {
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
}

contract(
  "the clock is set back by an hour: a request without an answer does not time out",
  patch,
  { stock: [] as ReadonlyArray<number>, patched: [1] },
  async (load) => {
    withFakeTime()
    const over: Array<number> = []
    const queue = make(load)
    ask(queue, 1, (id) => over.push(id))
    vi.setSystemTime(Date.now() - 3_600_000)
    await vi.advanceTimersByTimeAsync(1_000)
    queue.destroy()
    return over
  }
)

contract(
  "the clock is set back by an hour while a quota makes a connection wait: it sends nothing",
  patch,
  { stock: [] as ReadonlyArray<string>, patched: ["after 60 ms"] },
  async (load) => {
    withFakeTime()
    const queue = make(load)
    queue.maybeThrottle(30)
    queue.maybeThrottle(60)
    queue.maybeThrottle(20)
    const sent: Array<string> = []
    let at = 59
    const entry = { correlationId: 1, resolve: () => {}, reject: () => {} }
    queue.push({ entry, expectResponse: false, sendRequest: () => sent.push(`after ${at} ms`) })
    vi.setSystemTime(Date.now() - 3_600_000)
    await vi.advanceTimersByTimeAsync(59)
    at = 60
    await vi.advanceTimersByTimeAsync(10_000)
    queue.destroy()
    return sent
  }
)

contract(
  "an idle connection has a timer",
  patch,
  { stock: true, patched: false },
  (load) => {
    const queue = make(load)
    const hasTimer = queue.requestTimeoutIntervalId !== undefined
    queue.destroy()
    return Promise.resolve(hasTimer)
  }
)

it("each request times out at its own time, and then no timer is left", async () => {
  withFakeTime()
  const load = copy()
  patch.install(load)
  const queue = make(load)
  const over: Array<number> = []
  const timedOut = (id: number) => over.push(id)
  ask(queue, 1, timedOut)
  ask(queue, 2, timedOut)
  ask(queue, 4, timedOut, 100)
  queue.fulfillRequest({ correlationId: 2, payload: null, size: 0 })
  // stock kafkajs keeps another timer for requests that wait to be sent
  const others = vi.getTimerCount() - 1
  await vi.advanceTimersByTimeAsync(15)
  ask(queue, 3, timedOut)
  await vi.advanceTimersByTimeAsync(14)
  assert.deepStrictEqual(over, [])
  await vi.advanceTimersByTimeAsync(1)
  assert.deepStrictEqual(over, [1])
  await vi.advanceTimersByTimeAsync(15)
  assert.deepStrictEqual(over, [1, 3])
  await vi.advanceTimersByTimeAsync(55)
  assert.deepStrictEqual(over, [1, 3, 4])
  assert.strictEqual(vi.getTimerCount(), others)
  queue.destroy()
})
