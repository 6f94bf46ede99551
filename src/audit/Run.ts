import type { Duration } from "effect"
import { Effect, Option } from "effect"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import { judge } from "./Audit.js"
import * as Drain from "./Drain.js"
import type { Horizon } from "./Facts.js"
import * as FactStore from "./FactStore.js"
import type { Sources } from "./Sources.js"
import * as Tables from "./Tables.js"
import type { Tallied } from "./Tally.js"
import * as Tally from "./Tally.js"
import * as Topics from "./Topics.js"

export interface AuditOptions extends Sources {
  /** Milliseconds of the epoch; earlier records are not read. */
  readonly since: Option.Option<number>
  /** Audits this order alone. */
  readonly order?: bigint | undefined
  /** Time limit for first waiting until everything is consumed and published. */
  readonly wait: Option.Option<Duration.Duration>
  /** Maximum number of examples of each kind. */
  readonly examples: number
  /** Called with the number of processed rows, records and orders, and the known total. */
  readonly onProgress: (done: number, total: number) => Effect.Effect<void>
}

/** The counts and findings of an audit. */
export interface Audited {
  readonly orders: number
  readonly inventory: Readonly<Record<"records" | "accepted" | "ignored" | "malformed" | "unread", number>>
  readonly deadLetters: number
  readonly tables: Readonly<Record<"payments" | "WAIT" | "DONE" | "DEAD" | "unreadable", number>>
  /** Seconds for which the oldest event has waited; 0 when none waits. */
  readonly oldestWaiting: number
  readonly records: number
  readonly found: ReadonlyArray<Tallied>
  /** False when `wait` was too short. */
  readonly drained: boolean
  /** Size of the stored facts. */
  readonly bytes: number
}

/** The clocks of relay, broker and database need not agree to the second. */
const skew = 60

/** The time from which on the topic still has all records. */
const topicFrom = (
  spans: ReadonlyArray<KafkaOffsets.Span>,
  firstSeen: ReadonlyMap<number, number>,
  since: Option.Option<number>
) =>
  Math.max(
    ...spans.map(({ partition, whole }) =>
      whole ? 0 : Option.getOrElse(since, () => (firstSeen.get(partition) ?? Infinity) * 1000) / 1000 + skew
    )
  )

/** Adds `skipped` findings: records that the consumers noted as skipped, and records that they would skip now. */
const addSkipped = (
  tally: Tally.Tally,
  spans: ReadonlyArray<KafkaOffsets.Span>,
  committed: ReadonlyMap<number, number>,
  noted: ReadonlyMap<number, number>,
  fromTheFirst: boolean
) => {
  for (const { partition, start } of spans) {
    const next = committed.get(partition) ?? start
    const gone = (noted.get(partition) ?? 0) + (fromTheFirst ? Math.max(0, start - next) : 0)
    if (gone === 0) continue
    tally.add({
      kind: "skipped",
      at: { topic: "inventory", partition, offset: next },
      detail: `${gone} records before`
    })
  }
}

/**
 * Reads both topics and the tables, and judges every order.
 *
 * The order of the reads matters: the database's clock, the committed offsets, the ends of the topics, the topics, then one
 * snapshot of the tables. So every consumed record has its rows in the snapshot, every event that was `DONE` at the start is
 * before the ends, and every record before the ends has its rows. An audit beside running services therefore reports no work in
 * progress as a fault. Fails when a server does not answer, or a topic does not exist.
 */
export const run = Effect.fn("Audit.run")(function*(options: AuditOptions) {
  const { dlqTopic, inventoryTopic, kafka, paymentTopic } = options
  const since = Option.getOrUndefined(options.since)
  const drained = Option.isNone(options.wait) || (yield* Drain.wait(options, options.wait.value))
  const store = yield* FactStore.make
  const tally = Tally.make(options.examples)

  const startedAt = yield* Tables.clock
  const committed = yield* KafkaOffsets.committed(kafka, inventoryTopic, options.groupId)
  const inventory = yield* KafkaOffsets.spans(kafka, inventoryTopic, since)
  const skipped = yield* KafkaOffsets.skipped(kafka, inventoryTopic, options.groupId)
  if (options.order === undefined) addSkipped(tally, inventory, committed, skipped, since === undefined)
  const payment = yield* KafkaOffsets.spans(kafka, paymentTopic, since)
  const dlq = yield* KafkaOffsets.spans(kafka, dlqTopic, since).pipe(
    Effect.catchTag("TopicMissing", () => Effect.succeed<ReadonlyArray<KafkaOffsets.Span>>([]))
  )

  let done = 0
  let total = [...inventory, ...payment, ...dlq].reduce((sum, { end, start }) => sum + end - start, 0)
  const onRead = (count: number) => options.onProgress(done += count, total)
  const onTotal = (count: number) => options.onProgress(done, total += count)
  const source = (topic: string, spans: ReadonlyArray<KafkaOffsets.Span>): Topics.Source => ({
    kafka,
    topic,
    spans,
    onRead,
    order: options.order
  })

  const accept = new Set(options.acceptStatuses)
  const { counts, keys } = yield* Topics.inventory(source(inventoryTopic, inventory), { accept, committed }, store)
  const { firstSeen, records } = yield* Topics.payment(source(paymentTopic, payment), store, tally)
  const deadLetters = yield* Topics.deadLetters(source(dlqTopic, dlq), inventoryTopic, store)
  const dlqIsWhole = since !== undefined || dlq.every(({ whole }) => whole)
  for (let part = 0; part < FactStore.parts; part++) {
    for (const position of yield* store.withoutDeadLetter(part)) {
      const kind = dlqIsWhole ? "dead-letter-missing" : "unknown"
      tally.add({ kind, at: { topic: "inventory", ...position }, detail: "malformed, and no dead letter" })
    }
  }

  const tables = yield* Tables.read({
    topic: paymentTopic,
    startedAt,
    since: since === undefined ? undefined : Math.floor(since / 1000),
    order: options.order,
    keys,
    retention: options.retention,
    onTotal,
    onRead
  }, store)

  const horizon: Horizon = {
    topicFrom: topicFrom(payment, firstSeen, options.since),
    prunedBefore: tables.prunedBefore
  }
  let orders = 0
  const facts = store.size()
  yield* onTotal(facts)
  yield* store.markTaken
  for (let part = 0; part < FactStore.parts; part++) {
    for (const order of yield* store.ordersOf(part)) {
      if (options.order !== undefined && order.orderId !== options.order) continue
      orders++
      for (const finding of judge(order, horizon)) tally.add(finding)
    }
    yield* onRead(facts / FactStore.parts)
  }
  return {
    orders,
    inventory: counts,
    deadLetters,
    tables: tables.counts,
    oldestWaiting: tables.oldestWaiting,
    records,
    found: tally.all(),
    drained,
    bytes: store.bytes()
  } satisfies Audited
}, Effect.scoped)

/** Ids of events that are `DONE` and not on the payment topic. */
export const notOnTopic = ({ found }: Audited): ReadonlyArray<number> =>
  found.flatMap(({ examples, kind }) =>
    kind === "not-on-topic" ? examples.flatMap(({ eventId }) => eventId === undefined ? [] : [eventId]) : []
  )
