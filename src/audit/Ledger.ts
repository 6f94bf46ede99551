import { Effect } from "effect"
import type { PaymentStatus } from "../domain/Payment.js"
import type {
  AcceptedRecord,
  EventRow,
  EventState,
  KeyDigest,
  OrderFacts,
  PaymentRow,
  Place,
  TopicRecord
} from "./Facts.js"
import type { Row } from "./Spill.js"
import * as Spill from "./Spill.js"

const kinds = ["accepted", "taken", "payment", "event", "record", "malformed", "dead letter"] as const
type Kind = typeof kinds[number]
const statuses = [undefined, "CREATED", "COMPLETED", "FAILED"] as const
const states = ["WAIT", "DONE", "DEAD"] as const

interface Bits {
  readonly kind: Kind
  readonly status?: PaymentStatus | undefined
  readonly state?: EventState
  readonly flags?: readonly [boolean, boolean, boolean]
  /** Too old to be looked at for its own sake. */
  readonly old?: boolean
  readonly partition?: number
}

/** kind 3 bits, status 2, state 2, three flags and `old`, partition 16 */
const pack = ({ flags: [a, b, c] = [false, false, false], kind, old = false, partition = 0, state, status }: Bits) =>
  kinds.indexOf(kind) | (statuses.indexOf(status) << 3) | (states.indexOf(state ?? "WAIT") << 5) |
  (Number(a) << 7) | (Number(b) << 8) | (Number(c) << 9) | (Number(old) << 10) | (partition << 11)

const kindOf = ({ bits }: Row) => kinds[bits & 7]!
const isOld = ({ bits }: Row) => (bits & 1024) !== 0
const partitionOf = ({ bits }: Row) => bits >>> 11

const orderBucket = (order: bigint) => {
  const hash = Math.imul(Number(order & 0xffffffffn) ^ Math.imul(Number(order >> 32n), 0x85ebca77), 0x9e3779b1)
  return (hash >>> 16) % Spill.buckets
}
/** Offsets and digests of keys are spread evenly as they are. */
const bucketOf = (n: number) => n % Spill.buckets

const byPlace = (a: TopicRecord, b: TopicRecord) => a.partition - b.partition || a.offset - b.offset

const factsOf = (orderId: bigint, rows: ReadonlyArray<Row>): OrderFacts => {
  const accepted: Array<AcceptedRecord> = []
  const events: Array<EventRow> = []
  const records: Array<TopicRecord> = []
  let payment: PaymentRow | undefined
  const taken = new Set(rows.filter((row) => kindOf(row) === "taken").map(({ key }) => key))
  for (const row of rows) {
    const { bits, key, place, time } = row
    const [partition, says] = [partitionOf(row), statuses[(bits >> 3) & 3]]
    const [a, b, c] = [(bits & 128) !== 0, (bits & 256) !== 0, (bits & 512) !== 0]
    switch (kindOf(row)) {
      case "accepted":
        accepted.push({ key, partition, offset: place, read: a, keyTaken: taken.has(key) })
        break
      case "payment":
        payment = { status: says!, createdAt: time, updatedAt: place }
        break
      case "event": {
        const state = states[(bits >> 5) & 3]!
        events.push({ id: place, state, createdAt: time, key, says, exact: a, adopted: b, due: c })
        break
      }
      case "record":
        records.push({ partition, offset: place, at: time, key, says, exact: a, keyed: b })
    }
  }
  events.sort((a, b) => a.id - b.id)
  return { orderId, accepted, payment, events, records: records.sort(byPlace) }
}

/** What is kept comes back in so many parts. */
export const parts = Spill.buckets

/**
 * What an audit knows, most of it on disk. A fact goes into the bucket of its order, so that it is judged with the others
 * of that order, however far apart they were read: when all is read, a bucket at a time is in memory.
 */
export const make = Effect.gen(function*() {
  const orders = yield* Spill.make
  const keys = yield* Spill.make
  const places = yield* Spill.make

  const add = (order: bigint, key: number, place: number, time: number, bits: Bits) => {
    orders.add(orderBucket(order), { order, key, place, time, bits: pack(bits) })
  }
  const addKey = (kind: Kind, order: bigint, key: KeyDigest) =>
    keys.add(bucketOf(key), { order, key, place: 0, time: 0, bits: pack({ kind }) })
  const addPlace = (kind: Kind, { offset, partition }: Place) =>
    places.add(bucketOf(offset), { order: 0n, key: 0, place: offset, time: 0, bits: pack({ kind, partition }) })

  const addAccepted = (orderId: bigint, { key, offset, partition, read }: Omit<AcceptedRecord, "keyTaken">) => {
    add(orderId, key, offset, 0, { kind: "accepted", flags: [read, false, false], partition })
    addKey("accepted", orderId, key)
  }

  /** `inventoryKey` is 0 where the row has none. */
  const addPayment = (
    orderId: bigint,
    { createdAt, status, updatedAt }: PaymentRow,
    inventoryKey: KeyDigest,
    old: boolean
  ) => {
    add(orderId, 0, updatedAt, createdAt, { kind: "payment", status, old })
    if (inventoryKey !== 0) addKey("payment", orderId, inventoryKey)
  }

  const addEvent = (
    orderId: bigint,
    { adopted, createdAt, due, exact, id, key, says, state }: EventRow,
    old: boolean
  ) => add(orderId, key, id, createdAt, { kind: "event", status: says, state, flags: [exact, adopted, due], old })

  const addRecord = (orderId: bigint, { at, exact, key, keyed, offset, partition, says }: TopicRecord) =>
    add(orderId, key, offset, at, { kind: "record", status: says, flags: [exact, keyed, false], partition })

  /** Tells the orders of accepted records that the payment of another order has their key. */
  const tellTaken = Effect.gen(function*() {
    for (let part = 0; part < parts; part++) {
      const rows = yield* keys.read(part)
      const owners = new Map(rows.filter((row) => kindOf(row) === "payment").map(({ key, order }) => [key, order]))
      for (const { key, order } of rows) {
        if ((owners.get(key) ?? order) !== order) add(order, key, 0, 0, { kind: "taken" })
      }
      yield* orders.write
    }
  })

  /** All that is known of the orders of a part, but for those of which it is all old; in no particular order. */
  const ordersOf = Effect.fnUntraced(function*(part: number) {
    const grouped = new Map<bigint, Array<Row>>()
    for (const row of yield* orders.read(part)) {
      const known = grouped.get(row.order)
      if (known === undefined) grouped.set(row.order, [row])
      else known.push(row)
    }
    return Array.from(grouped).filter(([, rows]) => !rows.every(isOld)).map(([order, rows]) => factsOf(order, rows))
  })

  /** The malformed records of a part that have no dead letter. */
  const unburiedOf = Effect.fnUntraced(function*(part: number) {
    const rows = yield* places.read(part)
    const nameOf = (row: Row) => `${partitionOf(row)}/${row.place}`
    const buried = new Set(rows.filter((row) => kindOf(row) === "dead letter").map(nameOf))
    return rows.filter((row) => kindOf(row) === "malformed" && !buried.has(nameOf(row)))
      .map((row): Place => ({ partition: partitionOf(row), offset: row.place }))
  })

  return {
    addAccepted,
    addPayment,
    addEvent,
    addRecord,
    /** A record of topic `inventory` that cannot be read. */
    addMalformed: (place: Place) => addPlace("malformed", place),
    /** A dead letter, by the place that its record was at. */
    addDeadLetter: (place: Place) => addPlace("dead letter", place),
    /** Writes what is not to be kept in memory: to be run after a few thousand facts. */
    write: Effect.all([orders.write, keys.write, places.write], { discard: true }),
    tellTaken,
    ordersOf,
    unburiedOf,
    /** Facts of orders. */
    size: orders.size,
    /** What is kept, in bytes. */
    bytes: () => orders.bytes() + keys.bytes() + places.bytes()
  } as const
})

export type Ledger = Effect.Effect.Success<typeof make>
