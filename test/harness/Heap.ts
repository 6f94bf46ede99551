import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

const oldBytes = () => getHeapSpaceStatistics().find(({ space_name }) => space_name === "old_space")!.space_used_size

/**
 * How many bytes of old objects there were at the most while `step` ran so often, more than before. All that is there at
 * the beginning is old then.
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
