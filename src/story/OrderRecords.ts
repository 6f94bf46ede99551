import { Effect, Either } from "effect"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import type { KafkaOptions, KafkaUnavailable, TopicMissing } from "../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaPartitioner from "../infra/kafka/KafkaPartitioner.js"
import type { IncomingRecord } from "../infra/kafka/KafkaRecord.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import type { AnnouncedFact, RawRecord, RecordFact, Searched } from "./Facts.js"

/** A topic with up to this many records is searched whole: that takes a second or two. */
const small = 200_000

/** Milliseconds before and after a time that are searched: for the clocks, and for a backlog. */
const around = 10 * 60_000

/** The part of a topic to search. */
export interface Place {
  readonly kafka: KafkaOptions
  readonly topic: string
  /** The only partition, where it is known. */
  readonly partition?: number | undefined
  /** Time near the record, in milliseconds of the epoch. Undefined: the whole topic. */
  readonly near?: ReadonlyArray<number> | undefined
  /** Search from this time on, to the end. */
  readonly since?: number | undefined
}

const dateOf = ({ timestamp }: IncomingRecord) => Number(timestamp) < 0 ? null : new Date(Number(timestamp))

const textOf = (record: IncomingRecord, name: string): string | null => {
  const value = record.headers?.[name]
  return value == null ? null : (Array.isArray(value) ? value[0] : value)?.toString() ?? null
}

/** Chooses the offsets to search: all of a small topic, otherwise those about the known times. */
const choose = Effect.fnUntraced(function*({ kafka, near, partition, since, topic }: Place) {
  const mine = (spans: ReadonlyArray<KafkaOffsets.Span>) =>
    spans.filter((span) => partition === undefined || span.partition === partition)
  const whole = mine(yield* KafkaOffsets.spans(kafka, topic, since))
  const records = KafkaOffsets.count(whole)
  const range = {
    topic,
    problem: undefined,
    since: since === undefined ? undefined : new Date(since),
    until: undefined
  }
  if (since !== undefined || near === undefined || near.length === 0 || records <= small) return [whole, range] as const
  const [from, to] = [Math.min(...near) - around, Math.max(...near) + around]
  const starts = mine(yield* KafkaOffsets.spans(kafka, topic, from))
  const ends = mine(yield* KafkaOffsets.spans(kafka, topic, to))
  const spans = starts.map((span) => ({
    ...span,
    end: ends.find((end) => end.partition === span.partition)?.start ?? span.end
  }))
  return [spans, { ...range, since: new Date(from), until: new Date(to) }] as const
})

/** Searches a topic. A topic that is missing, denied or away is no failure: the rest of the story matters then most. */
export const search = (
  place: Place,
  take: (partition: number, record: IncomingRecord) => void
): Effect.Effect<Searched> =>
  Effect.gen(function*() {
    const [spans, searched] = yield* choose(place)
    yield* KafkaScan.scan(place.kafka, place.topic, spans, (partition, records) =>
      Effect.sync(() => {
        for (const record of records) take(partition, record)
      }))
    return searched as Searched
  }).pipe(Effect.catchAll((error: KafkaUnavailable | TopicMissing) =>
    Effect.succeed<Searched>({ topic: place.topic, since: undefined, until: undefined, problem: error.message })
  ))

/** An inventory record of the order, before it is judged. */
export type Found = Omit<RecordFact, "decision" | "before">

/** Searches topic `inventory` for the records of an order. */
export const inventory = Effect.fn("Story.inventory")(function*(orderId: bigint, place: Place) {
  const found: Array<Found> = []
  const raw: Array<RawRecord> = []
  const digits = String(orderId)
  const searched = yield* search(place, (partition, record) => {
    if (record.value === null || !record.value.includes(digits)) return
    const decoded = InventoryEvent.decode(record.value)
    if (Either.isLeft(decoded) || decoded.right.orderId !== orderId) return
    raw.push({ topic: place.topic, partition, record })
    found.push({
      topic: place.topic,
      partition,
      offset: record.offset,
      at: dateOf(record),
      record_key: record.key?.toString() ?? null,
      idempotent_key: decoded.right.idempotentKey,
      status: decoded.right.status,
      traceparent: textOf(record, "traceparent")
    })
  })
  return { found, raw, searched } as const
})

/** Searches topic `payment` for the records of an order. `partitions` is the number over which its events are spread. */
export const payment = Effect.fn("Story.payment")(
  function*(orderId: bigint, partitions: number | null, place: Place) {
    const announced: Array<AnnouncedFact> = []
    const raw: Array<RawRecord> = []
    const key = Buffer.from(String(orderId))
    const partition = partitions === null ? undefined : KafkaPartitioner.partitionOf(key, partitions)
    const take = (partition: number, record: IncomingRecord) => {
      if (record.key === null || !record.key.equals(key)) return
      raw.push({ topic: place.topic, partition, record })
      const body = record.value?.toString() ?? ""
      announced.push({
        topic: place.topic,
        partition,
        offset: record.offset,
        at: dateOf(record),
        idempotent_key: /"idempotent_key":"([0-9a-f-]{36})"/.exec(body)?.[1] ?? null,
        says: /"status":"([A-Z]+)"/.exec(body)?.[1] ?? null,
        event_id: textOf(record, "event-id")
      })
    }
    const searched = yield* search({ ...place, partition }, take)
    return { announced, raw, searched } as const
  }
)
