import { Effect } from "effect"
import * as KafkaSpan from "../../infra/kafka/KafkaSpan.js"
import * as Trace from "../../infra/runtime/Trace.js"
import type { EventRecord } from "../EventRecord.js"
import * as EventSpans from "../EventSpans.js"
import type { Batch, BatchState } from "./ShardBatches.js"

/** The spans of the events of one batch, from its first request to its commit. */
export interface Attempt {
  /** For `Transactions.send`. Undefined without a collector. */
  readonly onWritten: ((share: KafkaSpan.Written) => void) | undefined
  /** The transaction is committed. */
  readonly committed: Effect.Effect<void>
  /** The transaction failed for this reason. */
  readonly failed: (reason: string) => Effect.Effect<void>
}

const untraced: Attempt = { onWritten: undefined, committed: Effect.void, failed: () => Effect.void }

/** Spans of the batches of a shard, which has this name. */
export const make = (shard: string) => {
  /** The batches that earlier attempts had sent an event in, and whose end is unknown. */
  const earlier = new Map<string, bigint>()
  const nameOf = (number: bigint) => `${shard} ${number}`

  return {
    /** Takes the events whose batches were open at a takeover: those that wait again link to their last attempt. */
    wereOpen: (events: BatchState["open"]) => {
      for (const { id, number } of events) earlier.set(id, number)
    },
    /** Begins the spans of a batch. */
    begin: (batch: Batch, records: ReadonlyArray<EventRecord>): Effect.Effect<Attempt> =>
      Effect.map(Trace.recording, (recorder) => {
        const sending = EventSpans.sending(recorder, nameOf(batch.number))
        if (sending === undefined) return untraced
        const places = KafkaSpan.places()
        const end = (outcomeOf: (record: EventRecord) => EventSpans.Outcome) =>
          Effect.sync(() => {
            for (const record of records) {
              const { event } = record
              const number = earlier.get(event.id)
              earlier.delete(event.id)
              const waited = event.waited && number !== undefined
                ? { ...event.waited, attempt: nameOf(number) }
                : event.waited
              EventSpans.sent(sending, waited === undefined ? event : { ...event, waited }, outcomeOf(record))
            }
          })
        return {
          onWritten: places.add,
          committed: end((record) => ({ place: places.of(record) })),
          failed: (reason) => end(() => ({ error: reason }))
        }
      })
  } as const
}
