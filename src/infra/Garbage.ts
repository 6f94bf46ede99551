import { GlobalValue, Scheduler } from "effect"
import { setFlagsFromString } from "node:v8"

/** Where Effect 3.22 keeps the fibers that have no parent, for `Fiber.roots`. */
const globalScope = GlobalValue.globalValue(Symbol.for("effect/FiberScope/Global"), () => ({ add: () => {} }))

/** It would be a `Set`, and a fiber with all that its call has made would be held by it until the next full collection. */
const keepNoRoots = () => {
  globalScope.add = () => {}
}

/**
 * Objects of a call, a record or an event live for some milliseconds. For the whole process, this lets V8 collect them while
 * they are young, where that costs little.
 */
export const staysYoung = () => {
  // else V8 learns from one burst which objects outlive it, and makes all of their kind old from the beginning
  setFlagsFromString("--no-allocation-site-pretenuring")
  // what is old is collected when it has doubled; V8 would wait for up to four times as much
  setFlagsFromString("--heap-growing-percent=100")
  keepNoRoots()
}

/** One queue of tasks for all fibers. The default has one for each, in a `WeakMap` that every fiber enters. */
class OneQueue extends Scheduler.MixedScheduler {
  override scheduleTask(task: Scheduler.Task, priority: number) {
    super.scheduleTask(task, priority)
  }
}

/** As the default, with which a fiber gives way after 2048 steps. */
export const scheduler: Scheduler.Scheduler = new OneQueue(2048)
