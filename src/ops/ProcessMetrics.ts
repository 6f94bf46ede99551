import { Effect, Metric } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"

const memory = Metric.gauge("payments_process_resident_memory_bytes", { description: "Memory that the process holds" })
const uptime = Metric.gauge("payments_process_uptime_seconds", { description: "Time since the process began" })
const delay99 = Metric.gauge("payments_event_loop_delay_p99_seconds", {
  description: "99th percentile of how late the event loop came to its work since the last scrape"
})
const delayMax = Metric.gauge("payments_event_loop_delay_max_seconds", {
  description: "The longest that the event loop was late since the last scrape"
})

/** Each look wakes the process, also one that has nothing to do: five a second instead of fifty. */
const resolutionMillis = 200
/** What is measured is a timer of the resolution: it counts as lateness only beyond that. */
const lateness = (nanos: number) => Math.max(0, (nanos || 0) / 1e9 - resolutionMillis / 1_000)

/** Watches the event loop for the life of the scope. The effect that it answers sets the gauges. */
export const watch = Effect.acquireRelease(
  Effect.sync(() => {
    const delay = monitorEventLoopDelay({ resolution: resolutionMillis })
    delay.enable()
    return delay
  }),
  (delay) => Effect.sync(() => delay.disable())
).pipe(Effect.map((delay) =>
  Effect.suspend(() => {
    const [p99, max] = [lateness(delay.percentile(99)), lateness(delay.max)]
    delay.reset()
    return Effect.all([
      Metric.set(memory, process.memoryUsage.rss()),
      Metric.set(uptime, process.uptime()),
      Metric.set(delay99, p99),
      Metric.set(delayMax, max)
    ], { discard: true })
  })
))
