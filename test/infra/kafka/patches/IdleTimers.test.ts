import { assert, describe, it } from "@effect/vitest"
import { patch } from "../../../../src/infra/kafka/patches/IdleTimers.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import { copy } from "../../../harness/StockKafkajs.js"
import { contract, logger } from "./Library.js"

interface Queue {
  readonly throttleCheckTimeoutId: NodeJS.Timeout | null
  readonly destroy: () => void
  readonly maybeThrottle: (millis: number) => void
  readonly push: (request: object) => void
  readonly fulfillRequest: (response: object) => void
}

const make = (load: Load, maxInFlightRequests: number | null) => {
  const RequestQueue = load("kafkajs/src/network/requestQueue") as new(options: object) => Queue
  return new RequestQueue({ maxInFlightRequests, requestTimeout: 1_000, enforceRequestTimeout: true, logger })
}

/** Ends when the request is sent. */
const send = (queue: Queue, correlationId: number, expectResponse: boolean) =>
  new Promise<void>((resolve) =>
    queue.push({ entry: { correlationId, resolve: () => {} }, expectResponse, sendRequest: resolve })
  )

const answer = (queue: Queue, correlationId: number) => queue.fulfillRequest({ correlationId, payload: null, size: 0 })

contract(
  "a connection without requests has a timer",
  patch,
  { stock: true, patched: false },
  async (load) => {
    const queue = make(load, null)
    await send(queue, 1, true)
    answer(queue, 1)
    const hasTimer = queue.throttleCheckTimeoutId !== null
    queue.destroy()
    return hasTimer
  }
)

describe("with the patch", () => {
  const patched = () => {
    const load = copy()
    patch.install(load)
    return load
  }

  it("a request that the broker throttles is sent when the time is over", async () => {
    const queue = make(patched(), null)
    queue.maybeThrottle(5)
    await send(queue, 1, false)
    await send(queue, 2, false)
    assert.isNull(queue.throttleCheckTimeoutId)
  })

  it("a request that waits for the answer to another is sent when the answer arrives", async () => {
    const queue = make(patched(), 1)
    await send(queue, 1, true)
    const second = send(queue, 2, true)
    answer(queue, 1)
    await second
    answer(queue, 2)
    queue.destroy()
  })
})
