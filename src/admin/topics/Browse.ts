import { Effect, Schema } from "effect"
import type { KafkaOptions } from "../../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../../infra/kafka/KafkaOffsets.js"
import type { IncomingRecord } from "../../infra/kafka/KafkaRecord.js"
import * as KafkaScan from "../../infra/kafka/KafkaScan.js"
import type { Record } from "../api/Fields.js"
import { inList, recordOf } from "../Records.js"
import type { Match } from "./Window.js"
import * as Window from "./Window.js"

/** The limits of one search. */
export const limits = { examined: 20_000, bytes: 2 * 1024 * 1024, time: "10 seconds" } as const

/** The topic has no such partition. */
export class NoSuchPartition extends Schema.TaggedError<NoSuchPartition>()("NoSuchPartition", {
  topic: Schema.String,
  partition: Schema.Int
}) {
  override get message() {
    return `topic ${this.topic} has no partition ${this.partition}`
  }
}

/** The records that a reader wants, by what they hold. */
export interface Wanted {
  readonly partition?: number | undefined
  /** The whole key. */
  readonly key?: string | undefined
  /** Text in key or value. */
  readonly contains?: string | undefined
}

export interface Search extends Wanted {
  /** The first offset, with a partition. */
  readonly offset: number | undefined
  /** Milliseconds of the epoch. */
  readonly from: number | undefined
  readonly until: number | undefined
  readonly after: string | undefined
  readonly limit: number
}

interface Found extends Match {
  readonly record: Record
}

/** Tells the wanted records from others. */
export const matching = ({ contains, key, partition: wanted }: Wanted) => {
  const whole = key === undefined ? undefined : Buffer.from(key)
  const text = contains === undefined ? undefined : Buffer.from(contains)
  return (partition: number, record: IncomingRecord) =>
    (wanted === undefined || partition === wanted) &&
    (whole === undefined || record.key?.equals(whole) === true) &&
    (text === undefined || record.value?.includes(text) === true || record.key?.includes(text) === true)
}

const sizeOf = ({ headers, key, value }: Record) =>
  [key, value, ...headers.map((_) => _.value)].reduce(
    (sum, bytes) => sum + (bytes === null ? 0 : bytes.hex.length + (bytes.text?.length ?? 0)),
    200
  )

/**
 * Searches a topic: forward from an offset or a time, otherwise from the newest record back. One search reads at most 20,000
 * records, answers at most 2 MiB, and takes at most about 10 seconds; `next` of its result goes on. Fails with `NoSuchPartition`,
 * `TopicMissing` or `KafkaUnavailable`.
 */
export const search = Effect.fn("Browse.search")(function*(kafka: KafkaOptions, topic: string, asked: Search) {
  const { after, from, limit, offset, partition, until } = asked
  const forward = offset !== undefined || from !== undefined
  const all = yield* KafkaOffsets.spans(kafka, topic, from)
  const ends = until === undefined ? undefined : yield* KafkaOffsets.spans(kafka, topic, until)
  const spans = all.filter((span) => partition === undefined || span.partition === partition).map((span) => ({
    ...span,
    start: offset === undefined ? span.start : Math.max(span.start, offset),
    end: ends?.find((end) => end.partition === span.partition)?.start ?? span.end
  }))
  if (spans.length === 0) return yield* new NoSuchPartition({ topic, partition: partition ?? 0 })
  const filtered = asked.key !== undefined || asked.contains !== undefined
  const each = filtered ? Math.max(1, Math.floor(limits.examined / spans.length)) : limit
  const cursor = after === undefined ? undefined : Window.parse(after)
  const parts = Window.next(spans, cursor, forward, each).map((span) => new Window.Matches<Found>(span, forward, limit))
  const byPartition = new Map(parts.map((part) => [part.span.partition, part]))
  const isMatch = matching(asked)
  let examined = 0
  const read = KafkaScan.scan(kafka, topic, parts.map(({ span }) => span), (partition, records) =>
    Effect.sync(() => {
      const part = byPartition.get(partition)!
      examined += records.length
      for (const one of records) {
        part.reached = Number(one.offset) + 1
        if (!isMatch(partition, one)) continue
        const record = recordOf(topic, partition, one, inList)
        part.add({ partition, offset: Number(one.offset), at: Number(one.timestamp), bytes: sizeOf(record), record })
      }
    }))
  const inTime = yield* Effect.timeoutOption(read, limits.time)
  // after a whole scan the records that are missing are compacted or aborted ones
  if (inTime._tag === "Some") { for (const part of parts) part.reached = part.span.end }
  const { ended, next, records } = Window.choose(parts, spans, { forward, limit, bytes: limits.bytes })
  return { topic, records: records.map(({ record }) => record), examined, ended, next: Window.show(next) }
})
