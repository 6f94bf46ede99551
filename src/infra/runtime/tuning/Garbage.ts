import { GlobalValue, Scheduler } from "effect"
import { setFlagsFromString } from "node:v8"

/** The registry of root fibers (fibers without a parent) of Effect 3.22, which `Fiber.roots` reads. */
const globalScope = GlobalValue.globalValue(Symbol.for("effect/FiberScope/Global"), () => ({ add: () => {} }))

/** The registry is a `Set`. Its old hash tables would keep each finished fiber, and all objects of its call, until the next full collection. */
const keepNoRoots = () => {
  globalScope.add = () => {}
}

/**
 * Lets V8 collect the objects of a call, a record or an event while they are young, which is cheap. Applies to the whole
 * process. Reasons and figures: docs/decisions/young-garbage.md.
 */
export const staysYoung = () => {
  // otherwise V8 allocates every kind of object that survived one burst in the old generation
  setFlagsFromString("--no-allocation-site-pretenuring")
  // collect the old generation when it has doubled; the default waits for up to four times its size
  setFlagsFromString("--heap-growing-percent=100")
  keepNoRoots()
}

/** One task queue for all fibers. The default scheduler keeps one a fiber in a `WeakMap`, which ages with every fiber. */
class OneQueue extends Scheduler.MixedScheduler {
  override scheduleTask(task: Scheduler.Task, priority: number) {
    super.scheduleTask(task, priority)
  }
}

/** Like the default scheduler, a fiber yields after 2048 steps. */
export const scheduler: Scheduler.Scheduler = new OneQueue(2048)
