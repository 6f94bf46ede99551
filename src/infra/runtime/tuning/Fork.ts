import type { Effect } from "effect"
import { FiberId, FiberRefs, Runtime } from "effect"

/**
 * `Runtime.runFork` for thousands of fibers a second: all of them share one set of fiber references, which `Runtime.runFork`
 * copies for each fiber.
 */
export const runFork = <R>(runtime: Runtime.Runtime<R>) => {
  const { context, fiberRefs, runtimeFlags } = runtime
  const refs = FiberRefs.forkAs(fiberRefs, FiberId.unsafeMake())
  const fork = Runtime.runFork(Runtime.make({ context, runtimeFlags, fiberRefs: FiberRefs.empty() }))
  const options: Runtime.RunForkOptions = { updateRefs: () => refs }
  return <A, E>(effect: Effect.Effect<A, E, R>) => fork(effect, options)
}
