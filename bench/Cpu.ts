import { readdirSync, readFileSync } from "node:fs"
import type { Servers } from "./Stack.js"
import type { Running } from "./Subject.js"

/** CPU that one item cost, in microseconds: of the subject, and of the servers meanwhile. NaN where nothing was counted. */
export interface Cost {
  readonly own: number
  readonly postgres: number
  readonly kafka: number
}

export const uncounted: Cost = { own: Number.NaN, postgres: Number.NaN, kafka: Number.NaN }

/** /proc counts in hundredths of a second. */
const tick = 10_000

const childrenOf = (pid: number) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter((child) => child !== "").map(Number)

const treeOf = (pid: number): number => {
  try {
    const children = childrenOf(pid).reduce((sum, child) => sum + treeOf(child), 0)
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
    // user and system time of its own, then that of the children whose end it has seen
    return children + fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks) * tick, 0)
  } catch {
    return 0
  }
}

/** User and system time of a process and of all that it has started, in microseconds; NaN where there is no /proc. */
export const cpuOf = (pid: number) => treeOf(pid) || Number.NaN

/**
 * CPU time of the threads of a process and of all that it has started, in nanoseconds by the scheduler: for what is too
 * little for hundredths of a second. What a thread took that has ended is not in it. NaN where there is no /proc.
 */
export const nanosOf = (pid: number): number => {
  try {
    const own = readdirSync(`/proc/${pid}/task`).map((thread) =>
      Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0])
    )
    return [...own, ...childrenOf(pid).map(nanosOf)].reduce((sum, nanos) => sum + nanos, 0)
  } catch {
    return Number.NaN
  }
}

/** Starts to count; answers how to end, saying how many items it was. */
export const count = ({ pids }: Servers, running: Running) => {
  const read = () => [running.pid, pids.postgres, pids.kafka].map(cpuOf)
  const before = read()
  return (items: number): Cost => {
    const [own, postgres, kafka] = read().map((micros, i) => (micros - before[i]!) / items)
    return { own: own!, postgres: postgres!, kafka: kafka! }
  }
}
