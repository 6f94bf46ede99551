import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

const oldBytes = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")!.space_used_size

/**
 * The maximum growth of the old generation, in bytes, while `step` runs the given number of times. Objects that exist at the
 * start count as old already.
 */
export const grownOld = async (steps: number, step: (n: number) => void) => {
  collect()
  const before = oldBytes()
  let most = 0
  for (let n = 0; n < steps; n++) {
    step(n)
    if (n % 100 === 0) {
      most = Math.max(most, oldBytes() - before)
      await new Promise(setImmediate)
    }
  }
  return most
}
