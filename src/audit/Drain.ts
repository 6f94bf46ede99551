import { SqlClient } from "@effect/sql"
import type { Duration } from "effect"
import { Effect, Option, Schedule } from "effect"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import * as Postgres from "../infra/postgres/Postgres.js"

export interface DrainOptions {
  readonly kafka: KafkaOptions
  readonly inventoryTopic: string
  readonly groupId: string
}

/** A lag up to this many offsets is scanned, because it may consist of control records, over which no group commits. */
const scannedLag = 100

/** Number of records that the group has not committed yet. */
const lag = Effect.fnUntraced(function*({ groupId, inventoryTopic, kafka }: DrainOptions) {
  const committed = yield* KafkaOffsets.committed(kafka, inventoryTopic, groupId)
  const open = (yield* KafkaOffsets.spans(kafka, inventoryTopic, undefined))
    .map((span) => ({ ...span, start: Math.max(span.start, committed.get(span.partition) ?? 0) }))
  const offsets = open.reduce((sum, { end, start }) => sum + Math.max(0, end - start), 0)
  if (offsets === 0 || offsets > scannedLag) return offsets
  let records = 0
  yield* KafkaScan.scan(kafka, inventoryTopic, open, (_, { length }) => Effect.sync(() => void (records += length)))
  return records
})

const waiting = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly waits: boolean }>`
    SELECT EXISTS (SELECT FROM event WHERE status = 'WAIT') AS waits
  `.pipe(Postgres.run("10 seconds"))
  return row!.waits
})

/** Waits until everything is consumed and published. Returns false when that takes longer than `limit`. */
export const wait = Effect.fn("Audit.drain")(function*(options: DrainOptions, limit: Duration.Duration) {
  // lag before outbox, because consuming writes events
  const busy = Effect.flatMap(lag(options), (records) => records > 0 ? Effect.succeed(true) : waiting)
  const ended = yield* busy.pipe(
    Effect.repeat({ schedule: Schedule.spaced("500 millis"), while: (busy) => busy }),
    Effect.timeoutOption(limit)
  )
  return Option.isSome(ended)
})
