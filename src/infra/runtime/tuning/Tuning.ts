import { Effect, RuntimeFlags, RuntimeFlagsPatch } from "effect"
import * as Garbage from "./Garbage.js"

/**
 * Tunes V8 and Effect for the whole process and runs the program `main` with it. The program behaves the same without it.
 * README.md beside this file gives the reason and the figure of each item.
 */
export const run = <A, E, R>(main: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  Garbage.staysYoung()
  return main.pipe(
    Effect.withScheduler(Garbage.scheduler),
    // Effect's counters of started and ended fibers: no metric of this service reads them
    Effect.withRuntimeFlagsPatch(RuntimeFlagsPatch.disable(RuntimeFlags.RuntimeMetrics))
  )
}
