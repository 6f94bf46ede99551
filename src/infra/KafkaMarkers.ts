import { createRequire } from "node:module"
import { setTimeout } from "node:timers/promises"

/** Joins a partition, or the group of the offsets, to a transaction. */
type Join = (this: unknown, request: unknown) => Promise<unknown>

const { prototype } = createRequire(import.meta.url)("kafkajs/src/broker") as {
  readonly prototype: Record<"addPartitionsToTxn" | "addOffsetsToTxn", Join>
}

/** Milliseconds from an answer to the next question, and how often it is asked again. */
const [pause, patience] = [2, 1_000]

const isConcurrent = (error: unknown) =>
  error instanceof Error && "type" in error && error.type === "CONCURRENT_TRANSACTIONS"

/**
 * A transaction meets the markers of the last one for some milliseconds, and is told to ask again. kafkajs does so by
 * beginning the whole batch anew, also what another broker has in hand, and not at all for offsets.
 */
for (const method of ["addPartitionsToTxn", "addOffsetsToTxn"] as const) {
  const join = prototype[method]
  const ask = (broker: unknown, request: unknown, left: number): Promise<unknown> =>
    join.call(broker, request).catch((error: unknown) => {
      if (left === 0 || !isConcurrent(error)) throw error
      return setTimeout(pause).then(() => ask(broker, request, left - 1))
    })
  prototype[method] = function(request) {
    return ask(this, request, patience)
  }
}
