import type { Tracer } from "effect"
import { Effect, Exit, Option } from "effect"
import type { Batch, IncomingRecord } from "../infra/kafka/KafkaConsumer.js"
import * as KafkaSpan from "../infra/kafka/KafkaSpan.js"
import * as Trace from "../infra/runtime/Trace.js"
import * as Triage from "./Triage.js"

/** Spans of the records of a batch. */
export interface RecordSpans {
  /** Context for what a record causes: that of its span. Without a collector that of its producer, if it has one. */
  readonly traceparent: (record: IncomingRecord) => Option.Option<string>
  /** Runs the work of the batch, in the trace of its first record. The spans of the others link to it. */
  readonly around: <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Marks a record that becomes a dead letter. */
  readonly malformed: (record: IncomingRecord) => void
}

const untraced: RecordSpans = {
  traceparent: Triage.traceparent,
  around: (work) => work,
  malformed: () => {}
}

/**
 * Begins the span `process <topic>` of each record, a child of the span of its producer, which wrote `traceparent`.
 * Does nothing without a collector.
 */
export const begin = (
  { clientId, groupId }: { readonly clientId: string; readonly groupId: string },
  { partition, topic }: Batch,
  records: ReadonlyArray<IncomingRecord>
): Effect.Effect<RecordSpans> =>
  Effect.map(Trace.recording, (recorder) => {
    if (recorder === undefined) return untraced
    const spans = new Map<IncomingRecord, Tracer.Span>()
    const bad = new Set<Tracer.Span>()
    const common = {
      ...KafkaSpan.attributes("process", topic),
      "messaging.consumer.group.name": groupId,
      "messaging.client.id": clientId
    }
    for (const record of records) {
      const producer = Option.flatMap(Triage.traceparent(record), Trace.parse)
      spans.set(
        record,
        recorder.start(`process ${topic}`, {
          kind: "consumer",
          parent: producer,
          links: Option.toArray<Tracer.AnySpan>(producer),
          attributes: { ...common, ...KafkaSpan.place({ partition, offset: Number(record.offset) }) }
        })
      )
    }
    const end = (exit: Exit.Exit<unknown, unknown>) =>
      Effect.sync(() => {
        const now = recorder.now()
        for (const span of spans.values()) {
          if (Exit.isSuccess(exit) && bad.has(span)) Trace.endFailed(span, now, "malformed")
          else Trace.end(span, now, exit)
        }
      })
    const around = <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.onExit(Trace.shared("InventoryConsumer.take", () => [...spans.values()])(work), end)
    return {
      traceparent: (record) => Option.map(Option.fromNullable(spans.get(record)), Trace.show),
      around,
      malformed: (record) => void bad.add(spans.get(record)!)
    }
  })
