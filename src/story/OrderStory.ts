import { Clock, Duration, Effect, Option } from "effect"
import type { Sources } from "../audit/Sources.js"
import * as KafkaOffsets from "../infra/kafka/KafkaOffsets.js"
import { DeadLetterBox } from "../repair/DeadLetterBox.js"
import type { Filed } from "../repair/Filed.js"
import type { Letter } from "../repair/Letter.js"
import { Operations } from "../repair/Operations.js"
import type { Decision, EventFact, PaymentFact, RecordFact, Searched, Story } from "./Facts.js"
import type { Found } from "./OrderRecords.js"
import * as OrderRecords from "./OrderRecords.js"
import * as OrderRows from "./OrderRows.js"

/** The committed offsets; undefined when they cannot be read. */
type Committed = ReadonlyMap<number, number> | undefined

const byTime = (a: Found, b: Found) =>
  (a.at?.getTime() ?? 0) - (b.at?.getTime() ?? 0) || Number(a.offset) - Number(b.offset)

/** Judges the inventory records of an order, in the order of their times. */
export const decide = (
  orderId: bigint,
  found: ReadonlyArray<Found>,
  payment: PaymentFact | undefined,
  owners: ReadonlyMap<string, bigint>,
  accepted: ReadonlySet<string>,
  committed: Committed
): ReadonlyArray<RecordFact> => {
  let created = false
  const decisionOf = (record: Found, before: number): Decision => {
    if (before > 0) return "not read yet"
    if (!accepted.has(record.status)) return "ignored: its status is not in INVENTORY_ACCEPT_STATUSES"
    if ((owners.get(record.idempotent_key) ?? orderId) !== orderId) {
      return "no payment: its idempotent_key belongs to another order"
    }
    if (payment === undefined) return "read, and no payment"
    if (payment.inventory_key !== record.idempotent_key) {
      return "no second payment: the order has one, with another idempotent_key"
    }
    const first = !created
    created = true
    return first ? "created the payment" : "repeat: the payment has this idempotent_key"
  }
  return [...found].sort(byTime).map((record) => {
    const next = committed === undefined ? undefined : committed.get(record.partition) ?? 0
    // a payment proves that its record was read, also before the offset is committed
    const proved = payment !== undefined && payment.inventory_key === record.idempotent_key
    const before = next === undefined || proved ? 0 : Math.max(0, Number(record.offset) + 1 - next)
    return { ...record, before, decision: decisionOf(record, before) }
  })
}

/** Whether a dead letter is of an order: as its value names it, or as the place of one of its records. */
const mentions = (orderId: bigint) => {
  const pattern = new RegExp(`order_?id\\W{0,6}${orderId}(?!\\d)`, "i")
  return ({ value }: Letter) => value !== null && pattern.test(value.toString())
}

/** The newest letters of each partition that are searched for an order. A search from a given time on reads all. */
const newestLetters = 5_000

const settled = (status: string) => status !== "CREATED"

/** Times at which the payment got its statuses. */
const timesOf = ({ created_at, status, updated_at }: PaymentFact) =>
  settled(status) ? [created_at, updated_at] : [created_at]

/**
 * Tells the story of an order from the tables and the topics. Nothing is stored for it: records are found by time and
 * partition.
 */
export const make = Effect.fnUntraced(function*(options: Sources) {
  const rows = yield* OrderRows.make
  const box = yield* DeadLetterBox
  const operations = yield* Operations
  const { inventoryTopic, kafka, paymentTopic } = options
  const accepted = new Set(options.acceptStatuses)
  const retention = Duration.toMillis(options.retention)

  const eventsOf = Effect.fnUntraced(function*(orderId: bigint, payment: PaymentFact | undefined, now: number) {
    const times = payment === undefined ? [] : timesOf(payment)
    const events: ReadonlyArray<EventFact> = yield* rows.events(orderId, times)
    const young = times.filter((at) => now - at.getTime() < retention)
    const expected = payment === undefined ? 0 : young.length
    return events.length < expected ? yield* rows.whole(orderId) : events
  })

  /**
   * Reads the story of an order. `since` (milliseconds of the epoch) makes it search the topics from there to their ends.
   * Fails with `DatabaseUnavailable` only: what a broker does not answer is named in the story.
   */
  const tell = Effect.fn("OrderStory.tell")(function*(orderId: bigint, since?: number) {
    const now = yield* Clock.currentTimeMillis
    const row = yield* rows.payment(orderId, paymentTopic)
    const events = yield* eventsOf(orderId, row, now)
    const near = row === undefined ? undefined : [row.created_at.getTime()]
    const sent = events.flatMap(({ created_at, done_at }) => [created_at.getTime(), (done_at ?? created_at).getTime()])
    const letters: Array<Filed> = []
    const isOurs = mentions(orderId)
    let oldest = now
    const readLetters = box.scan(
      { error: undefined, since, ...(since === undefined ? { newest: newestLetters } : {}) },
      (filed) =>
        Effect.sync(() => {
          for (const one of filed) {
            oldest = Math.min(oldest, one.letter.at ?? oldest)
            if (isOurs(one.letter)) letters.push(one)
          }
        })
    ).pipe(
      Effect.map(({ read, total }): Searched => {
        const from = read < total ? oldest : since
        return {
          topic: options.dlqTopic,
          since: from === undefined ? undefined : new Date(from),
          until: undefined,
          problem: undefined
        }
      }),
      Effect.catchTags({
        KafkaUnavailable: ({ message }) =>
          Effect.succeed<Searched>({ topic: options.dlqTopic, since: undefined, until: undefined, problem: message }),
        TopicMissing: ({ message }) =>
          Effect.succeed<Searched>({ topic: options.dlqTopic, since: undefined, until: undefined, problem: message })
      })
    )
    const [inInventory, inPayment, inLetters, committed] = yield* Effect
      .all([
        OrderRecords.inventory(orderId, { kafka, topic: inventoryTopic, near, since }),
        OrderRecords.payment(orderId, row?.partitions ?? null, { kafka, topic: paymentTopic, near: sent, since }),
        readLetters,
        Effect.option(KafkaOffsets.committed(kafka, inventoryTopic, options.groupId))
      ], { concurrency: "unbounded" })
    const { found } = inInventory
    const { announced } = inPayment
    const owners = yield* rows.owners(found.map((_) => _.idempotent_key))
    return {
      orderId,
      now: new Date(now),
      records: decide(orderId, found, row, owners, accepted, Option.getOrUndefined(committed)),
      payment: row,
      events,
      announced,
      letters,
      raw: [
        ...inInventory.raw,
        ...letters.map(({ letter: { partition, record } }) => ({ topic: options.dlqTopic, partition, record })),
        ...inPayment.raw
      ],
      operations: yield* operations.last(20, Option.some(orderId)),
      searched: { inventory: inInventory.searched, payment: inPayment.searched, deadLetters: inLetters },
      retention
    } satisfies Story
  })

  return { tell } as const
})
