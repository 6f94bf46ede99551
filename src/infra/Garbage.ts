import type { Fiber } from "effect"
import { GlobalValue, Scheduler } from "effect"
import { setFlagsFromString } from "node:v8"
import { Numbered } from "./Numbered.js"

type AnyFiber = Fiber.RuntimeFiber<any, any>

/** Where Effect 3.22 keeps the fibers that have no parent. */
interface GlobalScope {
  roots: Iterable<AnyFiber> & {
    readonly add: (fiber: AnyFiber) => unknown
    readonly delete: (fiber: AnyFiber) => boolean
  }
}

const globalScope = GlobalValue.globalValue(Symbol.for("effect/FiberScope/Global"), (): GlobalScope => ({
  roots: new Set()
}))

/** What Effect keeps in a `Set`: a fiber and all that its call has made would be held until the next full collection. */
const numberRoots = () => {
  const fibers = new Numbered<AnyFiber>()
  const add = (fiber: AnyFiber) => fibers.set(fiber.id().id, fiber)
  for (const fiber of globalScope.roots) add(fiber)
  globalScope.roots = {
    add,
    delete: (fiber) => fibers.delete(fiber.id().id),
    [Symbol.iterator]: () => fibers.values()
  }
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
  numberRoots()
}

/** One queue of tasks for all fibers. The default has one for each, in a `WeakMap` that every fiber enters. */
class OneQueue extends Scheduler.MixedScheduler {
  override scheduleTask(task: Scheduler.Task, priority: number) {
    super.scheduleTask(task, priority)
  }
}

/** As the default, with which a fiber gives way after 2048 steps. */
export const scheduler: Scheduler.Scheduler = new OneQueue(2048)
