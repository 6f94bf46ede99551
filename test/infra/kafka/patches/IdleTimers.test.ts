import { assert, describe, it } from "@effect/vitest"
import { createRequire } from "node:module"
import { onTestFinished, vi } from "vitest"
import * as Patches from "../../../../src/infra/kafka/patches/Patches.js"

Patches.install()

interface Queue {
  readonly throttleCheckTimeoutId: NodeJS.Timeout | null
  readonly requestTimeoutIntervalId: NodeJS.Timeout | undefined
  readonly scheduleRequestTimeoutCheck: () => void
  readonly destroy: () => void
  readonly maybeThrottle: (millis: number) => void
  readonly push: (request: object) => void
  readonly fulfillRequest: (response: object) => void
}

const RequestQueue = createRequire(import.meta.url)("kafkajs/src/network/requestQueue") as new(options: object) => Queue

const logger = { debug: () => {}, warn: () => {} }

const make = (maxInFlightRequests: number | null, requestTimeout = 1_000) =>
  new RequestQueue({ maxInFlightRequests, requestTimeout, enforceRequestTimeout: true, logger })

/** Ends when the request is sent. */
const send = (queue: Queue, correlationId: number, expectResponse: boolean) =>
  new Promise<void>((resolve) =>
    queue.push({ entry: { correlationId, resolve: () => {} }, expectResponse, sendRequest: resolve })
  )

const answer = (queue: Queue, correlationId: number) => queue.fulfillRequest({ correlationId, payload: null, size: 0 })

describe("KafkaIdle", () => {
  it("a connection on which nothing waits has no timer", async () => {
    const queue = make(null)
    await send(queue, 1, true)
    answer(queue, 1)
    assert.isNull(queue.throttleCheckTimeoutId)
  })

  it("one that was opened and was asked for nothing has none either", () => {
    const queue = make(null)
    queue.scheduleRequestTimeoutCheck()
    assert.isUndefined(queue.requestTimeoutIntervalId)
  })

  it("what is not answered in time fails, each by its own time, and then nothing waits", async () => {
    vi.useFakeTimers()
    onTestFinished(() => void vi.useRealTimers())
    const queue = make(null, 30)
    queue.scheduleRequestTimeoutCheck()
    const failed = (correlationId: number) =>
      new Promise<Error>((reject) =>
        queue.push({ entry: { correlationId, reject }, expectResponse: true, sendRequest: () => {} })
      )
    const over: Array<number> = []
    const ask = (id: number) =>
      void failed(id).then(({ name }) => over.push(name === "KafkaJSRequestTimeoutError" ? id : 0))
    ask(1)
    await send(queue, 2, true)
    answer(queue, 2)
    await vi.advanceTimersByTimeAsync(15)
    ask(3)
    await vi.advanceTimersByTimeAsync(14)
    assert.deepStrictEqual(over, [])
    await vi.advanceTimersByTimeAsync(1)
    assert.deepStrictEqual(over, [1])
    await vi.advanceTimersByTimeAsync(15)
    assert.deepStrictEqual(over, [1, 3])
    assert.strictEqual(vi.getTimerCount(), 0)
    queue.destroy()
  })

  it("what the broker throttles is sent when the time is over", async () => {
    const queue = make(null)
    queue.maybeThrottle(5)
    await send(queue, 1, false)
    await send(queue, 2, false)
  })

  it("what waits for an answer to another is sent when it comes", async () => {
    const queue = make(1)
    await send(queue, 1, true)
    const second = send(queue, 2, true)
    answer(queue, 1)
    await second
    answer(queue, 2)
  })
})
