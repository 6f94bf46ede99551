import { Effect } from "effect"
import type { KafkaOptions } from "../../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../infra/kafka/KafkaScan.js"
import * as EventRecord from "../EventRecord.js"

/** Milliseconds by which the clock of the brokers may be behind that of the database. */
const skew = 10 * 60_000

/**
 * Records of a partition that are read before the first young one: where a broker refused the time of a record, the record
 * has none, and is not found by its time.
 */
const margin = 10_000

/**
 * Looks for events, by id and body, among the committed records of a topic since `since` (milliseconds of the epoch). The id
 * alone is not enough: a sequence that was set back gives ids that are on the topic already. Each body has its own key.
 *
 * Returns whether the topic has `all` or `none` of them. Else `unknown`: it has some; or a partition does not reach back that
 * far, so that it may have lost them or be a new topic of the same name; or it has records without a time.
 */
export const find = Effect.fn("TopicTail.find")(
  function*(options: KafkaOptions, topic: string, events: ReadonlyMap<string, string>, since: number) {
    const whole = yield* KafkaOffsets.spans(options, topic, undefined)
    const young = yield* KafkaOffsets.spans(options, topic, since - skew)
    const first = (partition: number) => whole.find((span) => span.partition === partition)?.start
    const tail = young.map((span) => ({
      ...span,
      start: Math.max(first(span.partition) ?? span.start, span.start - margin)
    }))
    const found = new Set<string>()
    let untimed = false
    yield* KafkaScan.scan(options, topic, tail, (_, records) =>
      Effect.sync(() => {
        for (const { headers, timestamp, value } of records) {
          if (timestamp === "-1") untimed = true
          const id = String(headers?.[EventRecord.idHeader])
          const payload = events.get(id)
          if (payload !== undefined && payload === value?.toString()) found.add(id)
        }
      }))
    if (found.size === events.size) return "all"
    const reachesBack = young.every(({ partition, start }) => start > (first(partition) ?? start))
    return found.size === 0 && reachesBack && !untimed ? "none" : "unknown"
  }
)
