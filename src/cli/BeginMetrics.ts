import { Effect, Metric } from "effect"
import * as StandardStreams from "../infra/runtime/StandardStreams.js"
import * as DeadLetters from "../inventory/DeadLetters.js"
import * as Intake from "../inventory/Intake.js"
import type { Role } from "../ops/Parts.js"
import * as Lease from "../outbox/leased/Lease.js"
import * as Pruner from "../outbox/Pruner.js"
import * as RelayMetrics from "../outbox/RelayMetrics.js"
import * as ShardWorkers from "../outbox/sharded/ShardWorkers.js"
import * as Expiry from "../payments/Expiry.js"
import * as Settlements from "../payments/Settlements.js"

/** The metrics that exist from the start, by role. Those of a supervisor or a part begin there. */
const metrics: Readonly<Record<Role, ReadonlyArray<Metric.Metric<any, any, any>>>> = {
  consumer: [...Intake.metrics, ...DeadLetters.metrics],
  relay: [...RelayMetrics.metrics, ...Lease.metrics, ...ShardWorkers.metrics, ...Pruner.metrics, ...Expiry.metrics],
  grpc: Settlements.metrics,
  console: Settlements.metrics
}

/** Creates the series of these roles at 0: a counter that appears with its first event hides that event from `increase()`. */
export const beginMetrics = (running: ReadonlyArray<Role>) =>
  Effect.forEach(
    [...StandardStreams.metrics, ...running.flatMap((role) => metrics[role])],
    (metric) => Metric.value(metric),
    { discard: true }
  )
