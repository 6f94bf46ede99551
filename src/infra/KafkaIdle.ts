import { createRequire } from "node:module"

/** Requests of a connection of kafkajs 2.2.4 that wait for their turn. */
interface RequestQueue {
  readonly pending: ReadonlyArray<unknown>
}

const { prototype } = createRequire(import.meta.url)("kafkajs/src/network/requestQueue") as {
  readonly prototype: RequestQueue & { scheduleCheckPendingRequests: (this: RequestQueue) => void }
}

const schedule = prototype.scheduleCheckPendingRequests
/**
 * kafkajs looks after what waits with a timer of a millisecond that sets itself again, for ever, also when nothing does:
 * 40 ms of CPU a second for each connection. Nothing comes to wait without a call of this function.
 */
prototype.scheduleCheckPendingRequests = function() {
  if (this.pending.length > 0) schedule.call(this)
}
