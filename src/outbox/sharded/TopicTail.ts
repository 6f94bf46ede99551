import { Effect } from "effect"
import type { KafkaOptions } from "../../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../../infra/kafka/KafkaScan.js"
import * as EventRecord from "../EventRecord.js"

/** How much earlier than the database's clock the brokers' may be, in milliseconds. */
const skew = 10 * 60_000

/**
 * So many records of a partition are read before the first that is young: where a broker refused our time, records have
 * none, and are not found by it.
 */
const margin = 10_000

/**
 * Looks for events, by id and body, among the committed records of a topic that are as young as `since` (milliseconds of
 * the epoch). The id alone does not tell: a sequence that was set back gives ids again that are on the topic already. The
 * body has a key of its own.
 *
 * `all` or `none` of them are there, or it is `unknown`: some are, or the topic does not reach back that far in every
 * partition, so that it may have lost them, or be another topic under the same name; or it has records without a time.
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
