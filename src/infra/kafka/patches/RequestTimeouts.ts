import type { Load, Patch } from "./Patch.js"

interface Request {
  /** Milliseconds. */
  readonly requestTimeout: number
  readonly timeoutRequest: () => void
}

interface RequestQueue {
  readonly enforceRequestTimeout: boolean
  readonly inflight: ReadonlyMap<number, Request>
  requestTimeoutIntervalId: NodeJS.Timeout | undefined
  /** Milliseconds of the epoch. Until then no request is sent. */
  throttledUntil: number
  checkPendingRequests: (this: RequestQueue) => void
  maybeThrottle: (this: RequestQueue, millis: number | null | undefined) => void
  scheduleRequestTimeoutCheck: (this: RequestQueue) => void
  sendSocketRequest: (this: RequestQueue, request: Request) => void
  destroy: (this: RequestQueue) => void
}

/**
 * Measures the time of a request by the monotonic clock, with one timer for the earliest deadline of a connection. The pause
 * that a broker asks for because of a quota ends by a timer too.
 *
 * Defect: kafkajs measures by the wall clock. After the clock was set back by an hour, a request without an answer fails an
 * hour late, and a connection with a pause sends nothing for an hour. kafkajs also checks ten times a second, on idle
 * connections too: 1 ms of CPU a second for each.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/network/requestQueue") as { readonly prototype: RequestQueue }
  const now = () => performance.now()
  const sent = new WeakMap<Request, number>()
  const sentAt = (request: Request) => sent.get(request) ?? now()

  /** Waits for the earliest deadline. By then most requests have their answer, and others are under way. */
  const watch = (queue: RequestQueue) => {
    const deadlines = Array.from(queue.inflight.values(), (request) => sentAt(request) + request.requestTimeout)
    queue.requestTimeoutIntervalId = deadlines.length === 0
      ? undefined
      : setTimeout(() => {
        const at = now()
        for (const request of [...queue.inflight.values()]) {
          if (at - sentAt(request) >= request.requestTimeout) request.timeoutRequest()
        }
        watch(queue)
      }, Math.max(1, Math.min(...deadlines) - now())).unref()
  }

  prototype.scheduleRequestTimeoutCheck = function() {}

  const send = prototype.sendSocketRequest
  prototype.sendSocketRequest = function(request) {
    sent.set(request, now())
    send.call(this, request)
    if (this.enforceRequestTimeout && this.requestTimeoutIntervalId === undefined) watch(this)
  }

  const pauses = new WeakMap<RequestQueue, { readonly end: number }>()
  const throttle = prototype.maybeThrottle
  prototype.maybeThrottle = function(millis) {
    throttle.call(this, millis)
    if (!millis) return
    const pause = { end: now() + millis }
    if (pause.end <= (pauses.get(this)?.end ?? 0)) return
    pauses.set(this, pause)
    setTimeout(() => {
      // a later answer has prolonged it
      if (pauses.get(this) !== pause) return
      this.throttledUntil = -1
      this.checkPendingRequests()
    }, millis).unref()
  }

  const destroy = prototype.destroy
  prototype.destroy = function() {
    destroy.call(this)
    this.requestTimeoutIntervalId = undefined
  }
}

export const patch: Patch = {
  module: "kafkajs/src/network/requestQueue",
  members: {
    scheduleRequestTimeoutCheck: 0,
    sendSocketRequest: 1,
    maybeThrottle: 1,
    checkPendingRequests: 0,
    destroy: 0
  },
  install
}
