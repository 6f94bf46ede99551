import { Effect, Metric } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import { untilSettled } from "../infra/kafka/KafkaOffsets.js"
import * as KafkaPositions from "../infra/kafka/KafkaPositions.js"
import * as KafkaTopic from "../infra/kafka/KafkaTopic.js"
import type { Part } from "../infra/runtime/Health.js"
import { problemOf } from "../infra/runtime/Problem.js"
import * as Skips from "./Skips.js"

const lag = Metric.gauge("payments_consumer_lag_records", {
  description:
    "Inventory records written and not yet processed by the consumer group, by partition; absent while unknown"
})

export interface PositionsOptions extends KafkaOptions {
  readonly topic: string
  readonly groupId: string
}

/** Where the group is in a partition: the offset that it processes next, and the end of the records. */
export interface Position {
  readonly at: bigint
  readonly end: bigint
}

/**
 * Returns an effect that asks for the position of each partition once, from the offsets that the group has committed and the ends of
 * the partitions, with connections for the life of the scope.
 */
export const positions = Effect.fnUntraced(function*(options: PositionsOptions) {
  const topic = yield* KafkaTopic.make(options, options.topic, options.groupId)
  const look = untilSettled(topic.look)
  /** The partitions at the last answer. */
  let known = 0
  return Effect.gen(function*() {
    if (known === 0) known = (yield* look).partitions
    const asked = Array.from({ length: known }, (_, partition) => partition)
    // asked for first: an offset behind an end that is older would count as one of another topic
    const committed = yield* untilSettled(topic.committed(asked))
    const { ends, partitions, topicId } = yield* look
    known = partitions
    return new Map(
      Array.from(ends).filter(([partition]) => partition < asked.length).map(
        ([partition, end]): readonly [number, Position] => {
          const { at } = KafkaPositions.start(partition, committed.get(partition), end, topicId)
          return [partition, { at, end: end.high }]
        }
      )
    )
  })
})

export interface LagOptions extends PositionsOptions {
  /** Gets whether the lag is known. */
  readonly part: Part
}

/** Time between two measurements. */
const interval = "5 seconds"

/**
 * Returns an effect that measures the lag of each partition once, by its position. So the lag is known while no consumer runs, and
 * while the consumer can read nothing. `/metrics` leaves out unknown lags and those of partitions that are gone. The gauges are
 * unknown when the scope ends.
 */
export const make = Effect.fnUntraced(function*({ part, ...options }: LagOptions) {
  const ask = yield* positions(options)
  const gauges = new Map<number, typeof lag>()
  const publish = (lags: ReadonlyMap<number, bigint>) => {
    for (const partition of lags.keys()) {
      if (gauges.has(partition)) continue
      gauges.set(partition, Metric.tagged(lag, "partition", String(partition)))
      Skips.begin(partition)
    }
    // /metrics leaves out NaN
    for (const [partition, gauge] of gauges) gauge.unsafeUpdate(Number(lags.get(partition) ?? Number.NaN), [])
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => publish(new Map())))

  return ask.pipe(Effect.match({
    onFailure: (error) => {
      publish(new Map())
      part.failed(problemOf(error, "kafka"))
    },
    onSuccess: (found) => {
      publish(new Map(Array.from(found, ([partition, { at, end }]) => [partition, end - at])))
      part.working()
    }
  }))
})

/** Measures the lag of the consumer group, for ever. */
export const serve = (options: LagOptions): Effect.Effect<never> =>
  make(options).pipe(
    Effect.flatMap((measure) => Effect.forever(Effect.zipRight(measure, Effect.sleep(interval)))),
    Effect.scoped
  )
