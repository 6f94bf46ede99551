import { Effect } from "effect"
import type { PaymentStatus } from "../domain/Payment.js"
import type {
  AcceptedRecord,
  EventRow,
  EventState,
  KeyDigest,
  OrderFacts,
  PaymentRow,
  Position,
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
  readonly flags?: readonly [boolean, boolean, boolean, boolean?, boolean?]
  /** True when it is older than `--since`. */
  readonly old?: boolean
  readonly partition?: number
}

/** Packs into one number: kind 3 bits, status 2, state 2, three flags, `old`, two more flags, partition 16. */
const pack = (
  { flags: [a, b, c, d = false, e = false] = [false, false, false], kind, old = false, partition = 0, state, status }:
    Bits
) =>
  kinds.indexOf(kind) | (statuses.indexOf(status) << 3) | (states.indexOf(state ?? "WAIT") << 5) |
  (Number(a) << 7) | (Number(b) << 8) | (Number(c) << 9) | (Number(old) << 10) | (Number(d) << 11) | (Number(e) << 12) |
  (partition << 13)

const kindOf = ({ bits }: Row) => kinds[bits & 7]!
const isOld = ({ bits }: Row) => (bits & 1024) !== 0
const partitionOf = ({ bits }: Row) => bits >>> 13

const orderBucket = (order: bigint) => {
  const hash = Math.imul(Number(order & 0xffffffffn) ^ Math.imul(Number(order >> 32n), 0x85ebca77), 0x9e3779b1)
  return (hash >>> 16) % Spill.buckets
}
/** Offsets and key digests are spread evenly without hashing. */
const bucketOf = (n: number) => n % Spill.buckets

const byPosition = (a: TopicRecord, b: TopicRecord) => a.partition - b.partition || a.offset - b.offset

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
        events.push({
          id: place,
          state,
          createdAt: time,
          key,
          says,
          exact: a,
          adopted: b,
          due: c,
          skipped: (bits & 2048) !== 0,
          replayed: (bits & 4096) !== 0
        })
        break
      }
      case "record":
        records.push({ partition, offset: place, at: time, key, says, exact: a, keyed: b })
    }
  }
  events.sort((a, b) => a.id - b.id)
  return { orderId, accepted, payment, events, records: records.sort(byPosition) }
}

/** Number of parts in which the facts are read back. */
export const parts = Spill.buckets

/**
 * The facts of an audit, most of them on disk, for the life of the scope. Each fact goes into the bucket of its order, so that
 * all facts of an order come back together, however far apart they were read. Only one bucket at a time is read into memory.
 */
export const make = Effect.gen(function*() {
  const orders = yield* Spill.make
  const keys = yield* Spill.make
  const positions = yield* Spill.make

  const add = (order: bigint, key: number, place: number, time: number, bits: Bits) => {
    orders.add(orderBucket(order), { order, key, place, time, bits: pack(bits) })
  }
  const addKey = (kind: Kind, order: bigint, key: KeyDigest) =>
    keys.add(bucketOf(key), { order, key, place: 0, time: 0, bits: pack({ kind }) })
  const addPosition = (kind: Kind, { offset, partition }: Position) =>
    positions.add(bucketOf(offset), { order: 0n, key: 0, place: offset, time: 0, bits: pack({ kind, partition }) })

  const addAccepted = (orderId: bigint, { key, offset, partition, read }: Omit<AcceptedRecord, "keyTaken">) => {
    add(orderId, key, offset, 0, { kind: "accepted", flags: [read, false, false], partition })
    addKey("accepted", orderId, key)
  }

  /** `inventoryKey` is 0 for a row without one. */
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
    { adopted, createdAt, due, exact, id, key, replayed, says, skipped, state }: EventRow,
    old: boolean
  ) =>
    add(orderId, key, id, createdAt, {
      kind: "event",
      status: says,
      state,
      flags: [exact, adopted, due, skipped, replayed],
      old
    })

  const addRecord = (orderId: bigint, { at, exact, key, keyed, offset, partition, says }: TopicRecord) =>
    add(orderId, key, offset, at, { kind: "record", status: says, flags: [exact, keyed, false], partition })

  /** Marks accepted records whose key belongs to the payment of another order. Run it before `ordersOf`. */
  const markTaken = Effect.gen(function*() {
    for (let part = 0; part < parts; part++) {
      const rows = yield* keys.read(part)
      const owners = new Map(rows.filter((row) => kindOf(row) === "payment").map(({ key, order }) => [key, order]))
      for (const { key, order } of rows) {
        if ((owners.get(key) ?? order) !== order) add(order, key, 0, 0, { kind: "taken" })
      }
      yield* orders.write
    }
  })

  /** The facts of the orders of a part, unsorted, without orders of which all facts are old. */
  const ordersOf = Effect.fnUntraced(function*(part: number) {
    const grouped = new Map<bigint, Array<Row>>()
    for (const row of yield* orders.read(part)) {
      const known = grouped.get(row.order)
      if (known === undefined) grouped.set(row.order, [row])
      else known.push(row)
    }
    return Array.from(grouped).filter(([, rows]) => !rows.every(isOld)).map(([order, rows]) => factsOf(order, rows))
  })

  /** The malformed inventory records of a part that have no dead letter. */
  const withoutDeadLetter = Effect.fnUntraced(function*(part: number) {
    const rows = yield* positions.read(part)
    const nameOf = (row: Row) => `${partitionOf(row)}/${row.place}`
    const withLetter = new Set(rows.filter((row) => kindOf(row) === "dead letter").map(nameOf))
    return rows.filter((row) => kindOf(row) === "malformed" && !withLetter.has(nameOf(row)))
      .map((row): Position => ({ partition: partitionOf(row), offset: row.place }))
  })

  return {
    addAccepted,
    addPayment,
    addEvent,
    addRecord,
    /** Adds a record of topic `inventory` that cannot be decoded. */
    addMalformed: (position: Position) => addPosition("malformed", position),
    /** Adds a dead letter, by the position of its original record. */
    addDeadLetter: (position: Position) => addPosition("dead letter", position),
    /** Writes full blocks to disk. Run it after every few thousand facts. */
    write: Effect.all([orders.write, keys.write, positions.write], { discard: true }),
    markTaken,
    ordersOf,
    withoutDeadLetter,
    /** Number of facts of orders. */
    size: orders.size,
    /** Size of all facts, in bytes. */
    bytes: () => orders.bytes() + keys.bytes() + positions.bytes()
  } as const
})

export type FactStore = Effect.Effect.Success<typeof make>
