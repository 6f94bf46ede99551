import { setTimeout } from "node:timers/promises"
import type { Load, Patch } from "./Patch.js"

/** Adds partitions, or the group of the offsets, to a transaction. */
type Add = (this: object, request: unknown) => Promise<unknown>

/** Milliseconds between two requests, and the number of repetitions. */
const [pause, patience] = [2, 1_000]

const isConcurrent = (error: unknown) =>
  error instanceof Error && "type" in error && error.type === "CONCURRENT_TRANSACTIONS"

/**
 * Repeats only the request that got CONCURRENT_TRANSACTIONS: for some milliseconds brokers still write the markers of the
 * last transaction. One request at a time repeats on a broker.
 *
 * Defect: kafkajs begins the whole batch anew, also the part that another broker has taken, and fails for offsets.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/broker") as {
    readonly prototype: Record<"addPartitionsToTxn" | "addOffsetsToTxn", Add>
  }
  /** The last request of a broker. A broker object belongs to one producer. */
  const last = new WeakMap<object, Promise<unknown>>()
  for (const method of ["addPartitionsToTxn", "addOffsetsToTxn"] as const) {
    const add = prototype[method]
    const ask = (broker: object, request: unknown, left: number): Promise<unknown> =>
      add.call(broker, request).catch((error: unknown) => {
        if (left === 0 || !isConcurrent(error)) throw error
        return setTimeout(pause).then(() => ask(broker, request, left - 1))
      })
    prototype[method] = function(request) {
      const added = (last.get(this) ?? Promise.resolve()).then(() => ask(this, request, patience))
      last.set(this, added.catch(() => {}))
      return added
    }
  }
}

export const patch: Patch = {
  module: "kafkajs/src/broker",
  members: { addPartitionsToTxn: 1, addOffsetsToTxn: 1 },
  install
}
