import { readdirSync, readFileSync } from "node:fs"
import type { Servers } from "./Stack.js"
import type { Running } from "./Subject.js"

/** CPU of one item in microseconds: of the subject, and of the servers meanwhile. NaN if not counted. */
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

/** CPU of a process and its children; NaN without /proc. */
const ofTree = (pid: number, of: (pid: number) => number) => {
  const sum = (pid: number): number => {
    try {
      return childrenOf(pid).reduce((total, child) => total + sum(child), of(pid))
    } catch {
      return 0
    }
  }
  return sum(pid) || Number.NaN
}

/** User and system time in microseconds. */
export const cpuOf = (pid: number) =>
  ofTree(pid, (pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
    // its own, then that of its ended children
    return fields.slice(11, 15).reduce((total, ticks) => total + Number(ticks) * tick, 0)
  })

/**
 * CPU time of the threads in nanoseconds by the scheduler, for what is too little for hundredths of a second. What a
 * thread took that has ended is not in it.
 */
export const nanosOf = (pid: number) =>
  ofTree(pid, (pid) =>
    readdirSync(`/proc/${pid}/task`).reduce(
      (total, thread) => total + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]),
      0
    ))

/** Starts counting. Returns a function that ends it for a number of items. */
export const count = ({ pids }: Servers, running: Running) => {
  const read = () => [running.pid, pids.postgres, pids.kafka].map(cpuOf)
  const before = read()
  return (items: number): Cost => {
    const [own, postgres, kafka] = read().map((micros, i) => (micros - before[i]!) / items)
    return { own: own!, postgres: postgres!, kafka: kafka! }
  }
}
