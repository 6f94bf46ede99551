import { Scheduler } from "effect"
import { setFlagsFromString } from "node:v8"

/**
 * Lets V8 collect the objects of a call, a record or an event while they are young, which is cheap. Applies to the whole
 * process. Reasons and figures: docs/decisions/young-garbage.md.
 */
export const staysYoung = () => {
  // V8 would allocate object kinds that survived one burst in the old generation
  setFlagsFromString("--no-allocation-site-pretenuring")
  // V8 collects the old generation when it has doubled, not when it has grown to four times its size
  setFlagsFromString("--heap-growing-percent=100")
}

/** One task queue for all fibers. The default scheduler keeps one a fiber in a `WeakMap`, which grows old with every fiber. */
class OneQueue extends Scheduler.MixedScheduler {
  override scheduleTask(task: Scheduler.Task, priority: number) {
    super.scheduleTask(task, priority)
  }
}

/** As with the default scheduler, a fiber yields after 2048 steps. */
export const scheduler: Scheduler.Scheduler = new OneQueue(2048)
