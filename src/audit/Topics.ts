import { Effect, Either } from "effect"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import * as InventoryLimits from "../domain/InventoryLimits.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import type * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import * as Decode from "./Decode.js"
import type { Seconds } from "./Facts.js"
import type { Ledger } from "./Ledger.js"
import type { Tally } from "./Tally.js"

/** A topic to read, and where. */
export interface Source {
  readonly kafka: KafkaOptions
  readonly topic: string
  readonly spans: ReadonlyArray<KafkaOffsets.Span>
  /** Told how many offsets were read more. */
  readonly onRead: (count: number) => Effect.Effect<void>
}

const scan = (
  { kafka, onRead, spans, topic }: Source,
  ledger: Ledger,
  take: (partition: number, record: Parameters<Parameters<typeof KafkaScan.scan>[3]>[1][number]) => void
) =>
  KafkaScan.scan(kafka, topic, spans, (partition, records) =>
    Effect.suspend(() => {
      for (const record of records) take(partition, record)
      // nothing more is fetched before it is written
      return Effect.zipRight(ledger.write, onRead(records.length))
    }))

/** Reads topic `inventory`. Records from `committed` on are not consumed yet, and nothing is asked of them. */
export const inventory = Effect.fn("Audit.inventory")(function*(
  source: Source,
  options: { readonly accept: ReadonlySet<string>; readonly committed: ReadonlyMap<number, number> },
  ledger: Ledger
) {
  const counts = { records: 0, accepted: 0, ignored: 0, malformed: 0, unread: 0 }
  yield* scan(source, ledger, (partition, record) => {
    const { offset, value } = record
    const read = Number(offset) < (options.committed.get(partition) ?? 0)
    counts.records++
    if (!read) counts.unread++
    const decoded = InventoryLimits.refusal(record) === undefined ? InventoryEvent.decode(value) : undefined
    if (decoded === undefined || Either.isLeft(decoded)) {
      counts.malformed++
      if (read) ledger.addMalformed({ partition, offset: Number(offset) })
    } else if (!options.accept.has(decoded.right.status)) counts.ignored++
    else {
      counts.accepted++
      const key = Decode.digest(decoded.right.idempotentKey)
      ledger.addAccepted(decoded.right.orderId, { key, read, partition, offset: Number(offset) })
    }
  })
  return counts
})

/** Reads topic `payment`. Answers the first time that was seen of each partition. */
export const payment = Effect.fn("Audit.payment")(function*(source: Source, ledger: Ledger, tally: Tally) {
  let records = 0
  const firstSeen = new Map<number, Seconds>()
  yield* scan(source, ledger, (partition, { key, offset, timestamp, value }) => {
    records++
    const at = Math.floor(Number(timestamp) / 1000)
    if (!firstSeen.has(partition)) firstSeen.set(partition, at)
    const body = Decode.payment(value)
    // whose order it is: the key says where the relay wanted it
    const byKey = Decode.orderOf(key)
    const orderId = byKey ?? body?.orderId
    if (orderId === undefined) {
      const place = { topic: "payment", partition, offset: Number(offset) } as const
      return tally.add({ kind: "unknown-record", at: place, detail: "no payment event, and no order in its key" })
    }
    ledger.addRecord(orderId, {
      partition,
      offset: Number(offset),
      at,
      key: body?.key ?? 0,
      says: body?.says,
      exact: body?.exact === true && body.orderId === orderId,
      keyed: byKey !== undefined
    })
  })
  return { records, firstSeen }
})

/** Reads the dead-letter topic: where its records come from. */
export const deadLetters = Effect.fn("Audit.deadLetters")(function*(
  source: Source,
  inventoryTopic: string,
  ledger: Ledger
) {
  let records = 0
  yield* scan(source, ledger, (_, { headers = {} }) => {
    records++
    const [topic, partition, offset] = ["dlq-topic", "dlq-partition", "dlq-offset"].map((name) => String(headers[name]))
    if (topic !== inventoryTopic || !/^\d{1,5}$/.test(partition!) || !/^\d{1,15}$/.test(offset!)) return
    ledger.addDeadLetter({ partition: Number(partition), offset: Number(offset) })
  })
  return records
})
