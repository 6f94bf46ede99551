import type { PaymentStatus } from "../domain/Payment.js"
import * as FactLog from "./FactLog.js"
import type { AcceptedRecord, EventRow, EventState, KeyDigest, OrderFacts, PaymentRow, TopicRecord } from "./Facts.js"
import * as OrderTable from "./OrderTable.js"

const [accepted, payment, event, record] = [0, 1, 2, 3]
const statuses = [undefined, "CREATED", "COMPLETED", "FAILED"] as const
const states = ["WAIT", "DONE", "DEAD"] as const

/** kind 2 bits, status 2, state 2, three flags, partition 16 */
const pack = (
  kind: number,
  status: PaymentStatus | undefined,
  state: EventState,
  flags: readonly [boolean, boolean, boolean],
  partition: number
) =>
  kind | (statuses.indexOf(status) << 2) | (states.indexOf(state) << 4) |
  (Number(flags[0]) << 6) | (Number(flags[1]) << 7) | (Number(flags[2]) << 8) | (partition << 9)

const unpack = (bits: number) => ({
  status: statuses[(bits >> 2) & 3],
  state: states[(bits >> 4) & 3]!,
  a: (bits & 64) !== 0,
  b: (bits & 128) !== 0,
  c: (bits & 256) !== 0,
  partition: (bits >>> 9) & 0xffff
})

const byPlace = (a: TopicRecord, b: TopicRecord) => a.partition - b.partition || a.offset - b.offset

/**
 * What was read so far, by order: what an audit has to keep. About 28 bytes a row or record and 20 an order, so that a
 * million orders of six facts take 190 MB, whatever else the heap is limited to.
 */
export const make = () => {
  const orders = OrderTable.make()
  const facts = FactLog.make()
  const none = [false, false, false] as const

  const addAccepted = (orderId: bigint, { key, offset, partition, read }: Omit<AcceptedRecord, "keyTaken">) =>
    facts.add(orders.numberOf(orderId), {
      key,
      place: offset,
      time: 0,
      bits: pack(accepted!, undefined, "WAIT", [read, false, false], partition)
    })

  /** `inventoryKey` is 0 where the row has none. */
  const addPayment = (orderId: bigint, { createdAt, status, updatedAt }: PaymentRow, inventoryKey: KeyDigest) =>
    facts.add(orders.numberOf(orderId), {
      key: inventoryKey,
      place: updatedAt,
      time: createdAt,
      bits: pack(payment!, status, "WAIT", none, 0)
    })

  const addEvent = (orderId: bigint, { adopted, createdAt, due, exact, id, key, says, state }: EventRow) =>
    facts.add(orders.numberOf(orderId), {
      key,
      place: id,
      time: createdAt,
      bits: pack(event!, says, state, [exact, adopted, due], 0)
    })

  const addRecord = (orderId: bigint, { at, exact, key, keyed, offset, partition, says }: TopicRecord) =>
    facts.add(orders.numberOf(orderId), {
      key,
      place: offset,
      time: at,
      bits: pack(record!, says, "WAIT", [exact, keyed, false], partition)
    })

  /** Keys of accepted records whose order has no payment, and that the payment of another order has. */
  const takenKeys = (): ReadonlySet<KeyDigest> => {
    const open = new Set<KeyDigest>()
    for (let n = 0; n < orders.size(); n++) {
      const rows = facts.of(n)
      if (rows.some(({ bits }) => (bits & 3) === payment)) continue
      for (const { bits, key } of rows) if ((bits & 3) === accepted) open.add(key)
    }
    const taken = new Set<KeyDigest>()
    if (open.size === 0) return taken
    for (let n = 0; n < orders.size(); n++) {
      for (const { bits, key } of facts.of(n)) if ((bits & 3) === payment && open.has(key)) taken.add(key)
    }
    return taken
  }

  const factsOf = (n: number, taken: ReadonlySet<KeyDigest>): OrderFacts => {
    const all = {
      accepted: [] as Array<AcceptedRecord>,
      events: [] as Array<EventRow>,
      records: [] as Array<TopicRecord>
    }
    let row: PaymentRow | undefined
    for (const { bits, key, place, time } of facts.of(n)) {
      const { a, b, c, partition, state, status } = unpack(bits)
      const kind = bits & 3
      if (kind === payment) row = { status: status!, createdAt: time, updatedAt: place }
      else if (kind === accepted) {
        all.accepted.unshift({ key, partition, offset: place, read: a, keyTaken: taken.has(key) })
      } else if (kind === event) {
        all.events.push({ id: place, state, createdAt: time, key, says: status, exact: a, adopted: b, due: c })
      } else all.records.push({ partition, offset: place, at: time, key, says: status, exact: a, keyed: b })
    }
    all.events.sort((a, b) => a.id - b.id)
    all.records.sort(byPlace)
    return { orderId: orders.id(n), payment: row, ...all }
  }

  return {
    addAccepted,
    addPayment,
    addEvent,
    addRecord,
    takenKeys,
    factsOf,
    has: orders.has,
    size: orders.size,
    /** What is kept, in bytes. */
    bytes: () => orders.bytes() + facts.bytes()
  } as const
}

export type Ledger = ReturnType<typeof make>
