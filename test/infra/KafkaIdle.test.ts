import { assert, describe, it } from "@effect/vitest"
import { createRequire } from "node:module"
import "../../src/infra/KafkaIdle.js"

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
    const queue = make(null, 30)
    queue.scheduleRequestTimeoutCheck()
    const failed = (correlationId: number) =>
      new Promise<Error>((reject) =>
        queue.push({ entry: { correlationId, reject }, expectResponse: true, sendRequest: () => {} })
      )
    const first = failed(1)
    await send(queue, 2, true)
    answer(queue, 2)
    const third = new Promise((resolve) => setTimeout(resolve, 15)).then(() => failed(3))
    for (const error of [await first, await third]) assert.strictEqual(error.name, "KafkaJSRequestTimeoutError")
    await new Promise((resolve) => setTimeout(resolve, 1))
    assert.isUndefined(queue.requestTimeoutIntervalId)
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
