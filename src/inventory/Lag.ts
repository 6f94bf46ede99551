import { Clock, Duration, Effect, Metric } from "effect"
import type { Skip } from "../infra/kafka/KafkaPositions.js"
import type { Standing } from "../infra/kafka/KafkaWait.js"

const lag = Metric.gauge("payments_consumer_lag_records", {
  description:
    "Inventory records that are written and not done with, by partition of this process; absent while not known"
})
const skipped = Metric.counter("payments_inventory_skipped_total", {
  description: "Inventory records that were gone before they were read, by partition and cause",
  incremental: true
})

/** A problem that stays is told again after this. */
const reminder = Duration.toMillis("1 minute")

/**
 * Publishes how the consumer stands: each lag as a metric, and its problem to `report` (none: undefined) and to the log,
 * when it begins, when it ends and once a minute in between.
 */
export const make = (report: (problem: string | undefined) => Effect.Effect<void>) => {
  const gauges = new Map<number, typeof lag>()
  let toldAt: number | undefined

  const log = Effect.fnUntraced(function*(problem: string | undefined) {
    const now = yield* Clock.currentTimeMillis
    if (problem === undefined) {
      if (toldAt !== undefined) yield* Effect.logInfo("the inventory consumer makes progress again")
      toldAt = undefined
    } else if (toldAt === undefined || now - toldAt >= reminder) {
      toldAt = now
      yield* Effect.logWarning(`the inventory consumer makes no progress: ${problem}`)
    }
  })

  return ({ lags, problem }: Standing) =>
    Effect.suspend(() => {
      for (const partition of lags.keys()) {
        if (!gauges.has(partition)) gauges.set(partition, Metric.tagged(lag, "partition", String(partition)))
      }
      // what is not a number is not shown
      for (const [partition, gauge] of gauges) gauge.unsafeUpdate(lags.get(partition) ?? Number.NaN, [])
      return Effect.zipRight(report(problem), log(problem))
    })
}

const causes = {
  expired: "they expired, or were deleted, before they were read",
  recreated: "the topic was deleted and made again",
  truncated: "the partition ends before the committed offset"
}

/** Counts and logs records that nobody will ever read. */
export const tellSkip = ({ cause, from, partition, records, to }: Skip) =>
  Metric.tagged(Metric.tagged(skipped, "partition", String(partition)), "cause", cause).pipe(
    Metric.incrementBy(Number(records ?? 0n)),
    Effect.zipRight(
      Effect.logError(
        `partition ${partition}: ${records ?? "an unknown number of"} records were skipped: ${causes[cause]}. ` +
          `Committed was offset ${from}, reading goes on at ${to}`
      )
    )
  )
