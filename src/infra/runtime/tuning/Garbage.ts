import { GlobalValue, Scheduler } from "effect"
import { setFlagsFromString } from "node:v8"

/**
 * The private registry of root fibers (fibers without a parent) of Effect 3.22, which `Fiber.roots` reads. Where Effect has
 * no such global, this makes an object that nothing uses.
 */
const globalScope = GlobalValue.globalValue(Symbol.for("effect/FiberScope/Global"), () => ({ add: () => {} }))

/** The registry is a `Set`: its old hash tables keep finished fibers and their objects alive until the next full collection. */
const keepNoRoots = () => {
  globalScope.add = () => {}
}

/**
 * Lets V8 collect the objects of a call, a record or an event while they are young, which is cheap. Applies to the whole
 * process. Reasons and figures: docs/decisions/young-garbage.md.
 */
export const staysYoung = () => {
  // V8 would allocate object kinds that survived one burst in the old generation
  setFlagsFromString("--no-allocation-site-pretenuring")
  // V8 collects the old generation when it has doubled, not when it has grown to four times its size
  setFlagsFromString("--heap-growing-percent=100")
  keepNoRoots()
}

/** One task queue for all fibers. The default scheduler keeps one a fiber in a `WeakMap`, which grows old with every fiber. */
class OneQueue extends Scheduler.MixedScheduler {
  override scheduleTask(task: Scheduler.Task, priority: number) {
    super.scheduleTask(task, priority)
  }
}

/** As with the default scheduler, a fiber yields after 2048 steps. */
export const scheduler: Scheduler.Scheduler = new OneQueue(2048)
