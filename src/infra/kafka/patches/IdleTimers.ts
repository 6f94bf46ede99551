import { createRequire } from "node:module"
import type { Patch } from "./Patch.js"

/** Requests of a connection of kafkajs 2.2.4: that wait for their turn, and that wait for their answer. */
interface RequestQueue {
  readonly enforceRequestTimeout: boolean
  readonly pending: ReadonlyArray<unknown>
  readonly inflight: ReadonlyMap<number, Request>
  requestTimeoutIntervalId: NodeJS.Timeout | undefined
}

interface Request {
  readonly requestTimeout: number
  readonly timeoutRequest: () => void
}

const { prototype } = createRequire(import.meta.url)("kafkajs/src/network/requestQueue") as {
  readonly prototype: RequestQueue & {
    scheduleCheckPendingRequests: (this: RequestQueue) => void
    scheduleRequestTimeoutCheck: (this: RequestQueue) => void
    sendSocketRequest: (this: RequestQueue, request: Request) => void
    destroy: (this: RequestQueue) => void
  }
}

const install = () => {
  const schedule = prototype.scheduleCheckPendingRequests
  /**
   * kafkajs looks after what waits with a timer of a millisecond that sets itself again, for ever, also when nothing does:
   * 40 ms of CPU a second for each connection. Nothing comes to wait without a call of this function.
   */
  prototype.scheduleCheckPendingRequests = function() {
    if (this.pending.length > 0) schedule.call(this)
  }

  /** By a clock that never jumps, which that of `sentAt` may. */
  const millis = () => performance.now()

  /** When requests were sent. */
  const sent = new WeakMap<Request, number>()
  const sentAt = (request: Request) => sent.get(request) ?? millis()

  /** Waits until the first request may be over its time, if there is one. By then most were answered, and others are in hand. */
  const watch = (queue: RequestQueue) => {
    const ends = Array.from(queue.inflight.values(), (request) => sentAt(request) + request.requestTimeout)
    queue.requestTimeoutIntervalId = ends.length === 0
      ? undefined
      : setTimeout(() => {
        const now = millis()
        for (const request of [...queue.inflight.values()]) {
          if (now - sentAt(request) >= request.requestTimeout) request.timeoutRequest()
        }
        watch(queue)
      }, Math.max(1, Math.min(...ends) - millis())).unref()
  }

  /** kafkajs looks ten times a second whether a request is over its time, on each connection, also where there is none. */
  prototype.scheduleRequestTimeoutCheck = function() {}

  const sendRequest = prototype.sendSocketRequest
  prototype.sendSocketRequest = function(request) {
    sent.set(request, millis())
    sendRequest.call(this, request)
    if (this.enforceRequestTimeout && this.requestTimeoutIntervalId === undefined) watch(this)
  }

  const destroy = prototype.destroy
  prototype.destroy = function() {
    destroy.call(this)
    this.requestTimeoutIntervalId = undefined
  }
}

export const patch: Patch = {
  module: "kafkajs/src/network/requestQueue",
  members: { scheduleCheckPendingRequests: 0, scheduleRequestTimeoutCheck: 0, sendSocketRequest: 1, destroy: 0 },
  install
}
