import { Metric, MetricBoundaries } from "effect"

const published = Metric.counter("payments_events_published_total", {
  description: "Events acknowledged by the broker and marked DONE",
  incremental: true
})
const retried = Metric.counter("payments_events_retried_total", {
  description: "Events to be sent again later, by reason",
  incremental: true
})
/** Counters by reason. */
export const retriedAs = {
  refused: Metric.tagged(retried, "reason", "refused"),
  unsent: Metric.tagged(retried, "reason", "unsent"),
  undecided: Metric.tagged(retried, "reason", "undecided")
}
const dead = Metric.counter("payments_events_dead_total", {
  description: "Events that the broker refused for good",
  incremental: true
})
const latency = Metric.histogram(
  "payments_publish_latency_seconds",
  MetricBoundaries.fromIterable([0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]),
  "From the commit of an event until it is marked DONE, after the broker's acknowledgement"
)

/** Counts a refused event. `status` is its new status; undefined when it did not change. */
export const refused = (status: "WAIT" | "DEAD" | undefined) =>
  (status === "DEAD" ? dead : retriedAs.refused).unsafeUpdate(1, [])

/** Counts events that were marked `DONE`; `waited` has the seconds from commit to mark of each. */
export const done = (waited: ReadonlyArray<number>) => {
  published.unsafeUpdate(waited.length, [])
  for (const seconds of waited) latency.unsafeUpdate(seconds, [])
}

/** The metrics of both deliveries. */
export const metrics = [published, ...Object.values(retriedAs), dead, latency]
