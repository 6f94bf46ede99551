import type { Load, Patch } from "./Patch.js"

interface RequestQueue {
  readonly pending: ReadonlyArray<unknown>
  scheduleCheckPendingRequests: (this: RequestQueue) => void
}

/**
 * Sets the timer for pending requests only while there are some. A request becomes pending only by a call of this function.
 *
 * Defect: the timer sets itself again each millisecond for ever. An idle connection takes 40 ms of CPU a second.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/network/requestQueue") as { readonly prototype: RequestQueue }
  const schedule = prototype.scheduleCheckPendingRequests
  prototype.scheduleCheckPendingRequests = function() {
    if (this.pending.length > 0) schedule.call(this)
  }
}

export const patch: Patch = {
  module: "kafkajs/src/network/requestQueue",
  members: { scheduleCheckPendingRequests: 0 },
  install
}
