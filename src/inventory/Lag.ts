import { Clock, Duration, Effect, Metric } from "effect"
import type { Skip } from "../infra/kafka/KafkaPositions.js"
import type { Standing } from "../infra/kafka/KafkaWait.js"

const lag = Metric.gauge("payments_consumer_lag_records", {
  description: "Inventory records written and not yet processed, by partition of this process; absent while unknown"
})
const skipped = Metric.counter("payments_inventory_skipped_total", {
  description: "Inventory records that were gone before they were read, by partition and cause",
  incremental: true
})

/** A lasting problem is logged again after this many milliseconds. */
const reminder = Duration.toMillis("1 minute")

/**
 * Publishes the state of the consumer: the lag of each partition as a metric, and its problem to `report` (undefined: no
 * problem) and to the log: one line when it begins, one each minute, one when it ends.
 */
export const make = (report: (problem: string | undefined) => Effect.Effect<void>) => {
  const gauges = new Map<number, typeof lag>()
  let loggedAt: number | undefined

  const log = Effect.fnUntraced(function*(problem: string | undefined) {
    const now = yield* Clock.currentTimeMillis
    if (problem === undefined) {
      if (loggedAt !== undefined) yield* Effect.logInfo("the inventory consumer makes progress again")
      loggedAt = undefined
    } else if (loggedAt === undefined || now - loggedAt >= reminder) {
      loggedAt = now
      yield* Effect.logWarning(`the inventory consumer makes no progress: ${problem}`)
    }
  })

  return ({ lags, problem }: Standing) =>
    Effect.suspend(() => {
      for (const partition of lags.keys()) {
        if (!gauges.has(partition)) gauges.set(partition, Metric.tagged(lag, "partition", String(partition)))
      }
      // /metrics leaves NaN out
      for (const [partition, gauge] of gauges) gauge.unsafeUpdate(lags.get(partition) ?? Number.NaN, [])
      return Effect.zipRight(report(problem), log(problem))
    })
}

const causes = {
  expired: "they expired, or were deleted, before they were read",
  recreated: "the topic was deleted and made again",
  truncated: "the partition ends before the committed offset"
}

/** Counts and logs records that were gone before the consumer read them. */
export const reportSkip = ({ cause, from, partition, records, to }: Skip) =>
  Metric.tagged(Metric.tagged(skipped, "partition", String(partition)), "cause", cause).pipe(
    Metric.incrementBy(Number(records ?? 0n)),
    Effect.zipRight(
      Effect.logError(
        `partition ${partition}: ${records ?? "an unknown number of"} records were skipped: ${causes[cause]}. ` +
          `The committed offset was ${from}; reading goes on at ${to}`
      )
    )
  )
