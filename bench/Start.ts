import type { Bench, Outcome } from "./Harness.js"
import { compare, inWorld, sample } from "./Harness.js"
import { ours, start } from "./Subject.js"
import { atMost } from "./Table.js"

/** From the start of the process to /readyz, with all servers running. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const rows = await compare(bench, "start", "s", [{
    name: "payments",
    measure: () =>
      inWorld(bench, async (world) => {
        const began = performance.now()
        const running = await start(ours(), world.env)
        const seconds = (performance.now() - began) / 1000
        await running.stop()
        return sample(seconds)
      })
  }])
  return { rows, verdicts: [atMost("start", "seconds to ready", rows[0]!.median, 1)] }
}
