import { Effect, Runtime } from "effect"
import { staysYoung } from "../src/infra/runtime/tuning/Garbage.js"
import { NumberMap } from "../src/infra/runtime/tuning/NumberMap.js"
import type { Bench, Outcome } from "./Harness.js"
import { compare, sample } from "./Harness.js"
import { grownOld } from "./Heap.js"
import { atMost } from "./Table.js"

/** About two kilobytes. */
const values = () => Array.from({ length: 32 }, (_, i) => ({ i }))

/** Keeps the last hundred of many values in a map. */
const through = (map: Map<number, unknown>) => {
  const add = (n: number) => {
    map.set(n, values())
    map.delete(n - 100)
  }
  for (let n = 0; n < 1_000; n++) add(n)
  return grownOld(40_000, (n) => add(1_000 + n))
}

/** Starts fibers without a parent, and ends each after a hundred more. */
const fibers = () => {
  const runFork = Runtime.runFork(Runtime.defaultRuntime)
  const ends: Array<() => void> = []
  const begin = () => {
    const held = values()
    runFork(Effect.async<number>((resume) => void ends.push(() => resume(Effect.succeed(held.length)))))
    if (ends.length > 100) ends.shift()!()
  }
  for (let n = 0; n < 20_000; n++) begin()
  return grownOld(60_000, begin)
}

const grown = (name: string, measure: () => Promise<number>) => ({
  name,
  measure: async () => sample((await measure()) / 1e6)
})

/** Megabytes of the old generation that short-lived values take, with the tuning and without it, in this process. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const maps = await compare(bench, "young, map", "MB", [
    grown("NumberMap", () => through(new NumberMap())),
    grown("Map", () => through(new Map()))
  ])
  // the tuning changes Effect for the life of the process: without it comes first
  const stock = await compare(bench, "young, fibers", "MB", [grown("stock", fibers)])
  staysYoung()
  const tuned = await compare(bench, "young, fibers", "MB", [grown("staysYoung", fibers)])
  return {
    rows: [...maps, ...tuned, ...stock],
    verdicts: [
      atMost("young", "NumberMap / Map", maps[0]!.median / maps[1]!.median, 0.25),
      atMost("young", "staysYoung / stock", tuned[0]!.median / stock[0]!.median, 0.5)
    ]
  }
}
