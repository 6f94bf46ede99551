import type { SqlClient } from "@effect/sql"
import { Option, Tracer } from "effect"
import * as KafkaSpan from "../infra/kafka/KafkaSpan.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { OutboxEvent } from "./OutboxEvent.js"

/** The part of a new event that its span shows. */
interface Traceable {
  readonly orderId: bigint
  readonly traceparent: string | null
}

/** Events that a statement is about to write, each with the context of its span `create <topic>`. */
export interface Creation<E extends Traceable> {
  readonly events: ReadonlyArray<E>
  /** Ends the spans of the events that the statement has written. The others leave no span. */
  readonly written: (isWritten: (event: E, place: number) => boolean) => void
}

const attributesOf = (operation: "create" | "send", topic: string, orderId: string) => ({
  ...KafkaSpan.attributes(operation, topic),
  "kafka.message.key": orderId,
  "payments.order_id": orderId
})

const untraced = () => {}

/**
 * Begins the span `create <topic>` of each event: the row and the record carry its context, so the reader of the record
 * continues the trace. Without a collector the events stay as they are.
 */
export const create = <E extends Traceable>(
  recorder: Trace.Recorder | undefined,
  topic: string,
  events: ReadonlyArray<E>
): Creation<E> => {
  if (recorder === undefined) return { events, written: untraced }
  const spans = events.map(({ orderId, traceparent }) =>
    recorder.start(`create ${topic}`, {
      kind: "producer",
      parent: Option.flatMap(Option.fromNullable(traceparent), Trace.parse),
      attributes: attributesOf("create", topic, String(orderId))
    })
  )
  const withContext = events.map((event, i) => ({ ...event, traceparent: Trace.show(spans[i]!) }))
  return {
    events: withContext,
    written: (isWritten) => {
      const now = recorder.now()
      spans.forEach((span, i) => {
        if (isWritten(withContext[i]!, i)) Trace.end(span, now)
      })
    }
  }
}

/** Columns that a claim also reads for the spans of its events. */
export interface Past {
  /** Seconds since the event was written. */
  readonly age: number
  /** Name of the last attempt that ended without an answer. */
  readonly attempt: string | null
}

/** The column `age`. */
export const age = (sql: SqlClient.SqlClient) =>
  sql`, extract(epoch FROM clock_timestamp() - event.created_at)::float8 AS age`

/** Events with their `waited`, from the rows of a claim. */
export const withPast = <Row extends OutboxEvent & Partial<Past>>(
  recorder: Trace.Recorder,
  rows: ReadonlyArray<Row>
): ReadonlyArray<Row> => {
  const now = recorder.now()
  return rows.map((row) => ({
    ...row,
    waited: { since: now - BigInt(Math.round((row.age ?? 0) * 1e9)), attempt: row.attempt ?? undefined }
  }))
}

/** The result of sending an event: its place on the topic, or the reason why it is not known to be there. */
export type Outcome = { readonly place: KafkaSpan.Place | undefined } | { readonly error: string }

/** An attempt of a relay to send events together. */
export interface Sending {
  readonly recorder: Trace.Recorder
  /** Name of the attempt in the database: the next relay finds it there, and links to the spans of this one. */
  readonly name: string
  /** When the attempt began, in nanoseconds of the epoch. */
  readonly since: bigint
}

/** Begins an attempt; undefined without a collector. */
export const sending = (recorder: Trace.Recorder | undefined, name: string): Sending | undefined =>
  recorder && { recorder, name, since: recorder.now() }

const spanId = (attempt: string, event: OutboxEvent) => Trace.spanIdOf(`${attempt} ${event.id}`)

/**
 * Records two spans of an event: `outbox <topic>`, the time from its commit to this attempt, and `send <topic>`, the attempt
 * itself. Both are children of its `create <topic>`. The second links to it, to the span of the relay that sends many events
 * together, and to the last attempt, if that may have left the record on the topic.
 */
export const sent = ({ name, recorder, since }: Sending, event: OutboxEvent, outcome: Outcome) => {
  const { key, topic, traceparent, waited } = event
  const parent = Option.flatMap(Option.fromNullable(traceparent), Trace.parse)
  const attributes = { ...attributesOf("send", topic, key), "messaging.message.id": event.id }
  if (waited !== undefined) {
    const wait = recorder.start(`outbox ${topic}`, {
      kind: "internal",
      parent,
      attributes: { "messaging.destination.name": topic, "messaging.message.id": event.id, "payments.order_id": key },
      since: waited.since < since ? waited.since : since
    })
    Trace.end(wait, since)
  }
  const last = Option.flatMap(
    Option.fromNullable(waited?.attempt),
    (attempt) => Option.map(parent, ({ traceId }) => Tracer.externalSpan({ traceId, spanId: spanId(attempt, event) }))
  )
  const span = recorder.start(`send ${topic}`, {
    kind: "client",
    parent,
    links: [parent, recorder.current, last].flatMap((span) => Option.toArray<Tracer.AnySpan>(span)),
    attributes: "error" in outcome || outcome.place === undefined
      ? attributes
      : { ...attributes, ...KafkaSpan.place(outcome.place) },
    since,
    spanId: spanId(name, event)
  })
  if ("error" in outcome) Trace.endFailed(span, recorder.now(), outcome.error)
  else Trace.end(span, recorder.now())
}
