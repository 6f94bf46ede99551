import { Effect, Metric } from "effect"
import type { Skip } from "../infra/kafka/KafkaPositions.js"

const skipped = Metric.counter("payments_inventory_skipped_total", {
  description: "Inventory records that were gone before they were read, by partition and cause",
  incremental: true
})

const causes = {
  expired: "they expired, or were deleted, before they were read",
  recreated: "the topic was deleted and made again",
  truncated: "the partition ends before the committed offset"
}

const counterOf = (partition: number, cause: string) =>
  skipped.pipe(Metric.tagged("partition", String(partition)), Metric.tagged("cause", cause))

/** Creates the series of a partition at 0. */
export const begin = (partition: number) => {
  for (const cause of Object.keys(causes)) counterOf(partition, cause).unsafeUpdate(0, [])
}

/** Counts and logs records that were gone before the consumer read them. */
export const report = ({ cause, from, partition, records, to }: Skip) =>
  counterOf(partition, cause).pipe(
    Metric.incrementBy(Number(records ?? 0n)),
    Effect.zipRight(
      Effect.logError(
        `partition ${partition}: ${records ?? "an unknown number of"} records were skipped: ${causes[cause]}. ` +
          `The committed offset was ${from}; reading goes on at ${to}`
      ).pipe(Effect.annotateLogs({ partition, offset: String(from), next_offset: String(to), reason: cause }))
    )
  )
