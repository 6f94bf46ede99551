import type { Effect } from "effect"
import { FiberId, FiberRefs, Runtime } from "effect"

/**
 * `Runtime.runFork` for thousands of fibers a second. `Runtime.runFork` copies the fiber references for each fiber; here
 * all fibers start with one shared set.
 */
export const runFork = <R>(runtime: Runtime.Runtime<R>) => {
  const { context, fiberRefs, runtimeFlags } = runtime
  const refs = FiberRefs.forkAs(fiberRefs, FiberId.unsafeMake())
  const fork = Runtime.runFork(Runtime.make({ context, runtimeFlags, fiberRefs: FiberRefs.empty() }))
  const options: Runtime.RunForkOptions = { updateRefs: () => refs }
  return <A, E>(effect: Effect.Effect<A, E, R>) => fork(effect, options)
}
