import { Effect, Metric } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"

const memory = Metric.gauge("payments_process_resident_memory_bytes", { description: "Resident memory of the process" })
const uptime = Metric.gauge("payments_process_uptime_seconds", { description: "Time since the process started" })
const delay99 = Metric.gauge("payments_event_loop_delay_p99_seconds", {
  description: "99th percentile of event loop delay since the last scrape"
})
const delayMax = Metric.gauge("payments_event_loop_delay_max_seconds", {
  description: "Longest event loop delay since the last scrape"
})

/** Each sample wakes the process: five a second instead of the default fifty. */
const resolutionMillis = 200
/** The histogram measures timer intervals: only the part beyond the resolution is delay. */
const lateness = (nanos: number) => Math.max(0, (nanos || 0) / 1e9 - resolutionMillis / 1_000)

/** Samples the event loop for the life of the scope. The returned effect sets the gauges. */
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
