import { createRequire } from "node:module"
import { setTimeout } from "node:timers/promises"
import type { Patch } from "./Patch.js"

/** Joins a partition, or the group of the offsets, to a transaction. */
type Join = (this: object, request: unknown) => Promise<unknown>

const { prototype } = createRequire(import.meta.url)("kafkajs/src/broker") as {
  readonly prototype: Record<"addPartitionsToTxn" | "addOffsetsToTxn", Join>
}

/** Milliseconds from an answer to the next question, and how often it is asked again. */
const [pause, patience] = [2, 1_000]

const isConcurrent = (error: unknown) =>
  error instanceof Error && "type" in error && error.type === "CONCURRENT_TRANSACTIONS"

/** By broker, as one producer knows it: one asks on behalf of all that are to be joined. */
const joining = new WeakMap<object, Promise<unknown>>()

const install = () => {
  /**
   * A transaction meets the markers of the last one for some milliseconds, and is told to ask again. kafkajs does so by
   * beginning the whole batch anew, also what another broker has in hand, and not at all for offsets.
   */
  for (const method of ["addPartitionsToTxn", "addOffsetsToTxn"] as const) {
    const join = prototype[method]
    const ask = (broker: object, request: unknown, left: number): Promise<unknown> =>
      join.call(broker, request).catch((error: unknown) => {
        if (left === 0 || !isConcurrent(error)) throw error
        return setTimeout(pause).then(() => ask(broker, request, left - 1))
      })
    prototype[method] = function(request) {
      const joined = (joining.get(this) ?? Promise.resolve()).then(() => ask(this, request, patience))
      joining.set(this, joined.catch(() => {}))
      return joined
    }
  }
}

export const patch: Patch = {
  module: "kafkajs/src/broker",
  members: { addPartitionsToTxn: 1, addOffsetsToTxn: 1 },
  install
}
