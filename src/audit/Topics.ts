import { Effect, Either } from "effect"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import * as InventoryLimits from "../domain/InventoryLimits.js"
import type { KafkaOptions } from "../infra/kafka/KafkaClient.js"
import type * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import * as KafkaScan from "../infra/kafka/KafkaScan.js"
import * as Decode from "./Decode.js"
import type { Seconds } from "./Facts.js"
import type { FactStore } from "./FactStore.js"
import type { Tally } from "./Tally.js"

/** A topic and the offsets to read. */
export interface Source {
  readonly kafka: KafkaOptions
  readonly topic: string
  readonly spans: ReadonlyArray<KafkaOffsets.Span>
  /** Called with the number of records of each read. */
  readonly onRead: (count: number) => Effect.Effect<void>
  /** Only records of this order count. */
  readonly order: bigint | undefined
}

const scan = (
  { kafka, onRead, spans, topic }: Source,
  store: FactStore,
  take: (partition: number, record: Parameters<Parameters<typeof KafkaScan.scan>[3]>[1][number]) => void
) =>
  KafkaScan.scan(kafka, topic, spans, (partition, records) =>
    Effect.suspend(() => {
      for (const record of records) take(partition, record)
      // the next fetch waits for the write
      return Effect.zipRight(store.write, onRead(records.length))
    }))

/** Reads topic `inventory`. Records from the `committed` offset on are not consumed yet and cannot be lost. Returns counts,
 * and the idempotency keys of the accepted records when the source is limited to an order.
 */
export const inventory = Effect.fn("Audit.inventory")(function*(
  source: Source,
  options: { readonly accept: ReadonlySet<string>; readonly committed: ReadonlyMap<number, number> },
  store: FactStore
) {
  const counts = { records: 0, accepted: 0, ignored: 0, malformed: 0, unread: 0 }
  // of one order they are few
  const keys: Array<string> = []
  yield* scan(source, store, (partition, record) => {
    const { offset, value } = record
    const decoded = InventoryLimits.refusal(record) === undefined ? InventoryEvent.decode(value) : undefined
    const orderId = decoded !== undefined && Either.isRight(decoded) ? decoded.right.orderId : undefined
    if (source.order !== undefined && orderId !== source.order) return
    const read = Number(offset) < (options.committed.get(partition) ?? 0)
    counts.records++
    if (!read) counts.unread++
    if (decoded === undefined || Either.isLeft(decoded)) {
      counts.malformed++
      if (read) store.addMalformed({ partition, offset: Number(offset) })
    } else if (!options.accept.has(decoded.right.status)) counts.ignored++
    else {
      counts.accepted++
      const key = Decode.digest(decoded.right.idempotentKey)
      if (source.order !== undefined) keys.push(decoded.right.idempotentKey)
      store.addAccepted(decoded.right.orderId, { key, read, partition, offset: Number(offset) })
    }
  })
  return { counts, keys } as const
})

/** Reads topic `payment`. Returns the number of records, and the first timestamp of each partition. */
export const payment = Effect.fn("Audit.payment")(function*(source: Source, store: FactStore, tally: Tally) {
  let records = 0
  const firstSeen = new Map<number, Seconds>()
  yield* scan(source, store, (partition, { key, offset, timestamp, value }) => {
    const at = Math.floor(Number(timestamp) / 1000)
    if (!firstSeen.has(partition)) firstSeen.set(partition, at)
    const body = Decode.payment(value)
    // the key names the order, even if the body is broken
    const byKey = Decode.orderOf(key)
    const orderId = byKey ?? body?.orderId
    if (source.order !== undefined && orderId !== source.order) return
    records++
    if (orderId === undefined) {
      const position = { topic: "payment", partition, offset: Number(offset) } as const
      return tally.add({ kind: "unknown-record", at: position, detail: "no payment event, and no order in its key" })
    }
    store.addRecord(orderId, {
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

/** Reads the positions of the original records from the dead-letter topic. Returns the number of dead letters. */
export const deadLetters = Effect.fn("Audit.deadLetters")(function*(
  source: Source,
  inventoryTopic: string,
  store: FactStore
) {
  let records = 0
  yield* scan(source, store, (_, { headers = {} }) => {
    records++
    const [topic, partition, offset] = ["dlq-topic", "dlq-partition", "dlq-offset"].map((name) => String(headers[name]))
    if (topic !== inventoryTopic || !/^\d{1,5}$/.test(partition!) || !/^\d{1,15}$/.test(offset!)) return
    store.addDeadLetter({ partition: Number(partition), offset: Number(offset) })
  })
  return records
})
