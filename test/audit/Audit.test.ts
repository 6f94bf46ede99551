import { assert, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { judge } from "../../src/audit/Audit.js"
import type { EventRow, Horizon, OrderFacts, TopicRecord } from "../../src/audit/Facts.js"
import type { Kind } from "../../src/audit/Finding.js"
import { kinds, repairOf } from "../../src/audit/Finding.js"

/** Before 1000 the topic is trimmed, before 2000 the table is pruned. */
const horizon: Horizon = { topicFrom: 1_000, prunedBefore: 2_000 }

type Draft = { -readonly [K in keyof OrderFacts]: OrderFacts[K] }

interface Shape {
  readonly orderId: bigint
  readonly outcome: "CREATED" | "COMPLETED" | "FAILED"
  readonly createdAt: number
  /** Seconds from the creation to the settlement. */
  readonly settledAfter: number
  readonly repeats: number
  readonly offset: number
  /** Number of last events that are not published. */
  readonly waiting: number
  readonly adopted: boolean
}

const young = fc.integer({ min: 2_000, max: 9_000 })
const shape = (createdAt: fc.Arbitrary<number>): fc.Arbitrary<Shape> =>
  fc.record({
    orderId: fc.bigInt(1n, 9223372036854775807n),
    outcome: fc.constantFrom("CREATED", "COMPLETED", "FAILED"),
    createdAt,
    settledAfter: fc.nat(5_000),
    repeats: fc.integer({ min: 1, max: 3 }),
    offset: fc.nat(1_000_000),
    waiting: fc.nat(2),
    adopted: fc.boolean()
  })

/** The facts of an order without a fault, as far as they are kept. */
const history = (
  { adopted, createdAt, offset, orderId, outcome, repeats, settledAfter, waiting }: Shape
): Draft => {
  const updatedAt = outcome === "CREATED" ? createdAt : createdAt + settledAfter
  const says = outcome === "CREATED" ? [outcome] as const : ["CREATED", outcome] as const
  const times = [createdAt, updatedAt]
  const published = says.length - Math.min(waiting, says.length)
  const rows = says.map((says, i): EventRow => ({
    id: 10 + i,
    state: i < published ? "DONE" : "WAIT",
    createdAt: times[i]!,
    key: 100 + i,
    says,
    exact: !adopted,
    adopted,
    due: i < published,
    skipped: false,
    replayed: false
  }))
  const records = rows.slice(0, published).map((row, i): TopicRecord => ({
    partition: 3,
    offset: offset + i * 7,
    at: row.createdAt,
    key: row.key,
    says: row.says,
    exact: true,
    keyed: !adopted
  }))
  return {
    orderId,
    accepted: Array.from(
      { length: repeats },
      (_, i) => ({ partition: 0, offset: i, key: 5, read: true, keyTaken: false })
    ),
    payment: { status: outcome, createdAt, updatedAt },
    events: rows.filter(({ createdAt, state }) => state === "WAIT" || createdAt >= horizon.prunedBefore),
    records: records.filter(({ at }) => at >= horizon.topicFrom)
  }
}

const kindsOf = (order: OrderFacts, view = horizon) => judge(order, view).map(({ kind }) => kind)
const faultsOf = (order: OrderFacts) => kindsOf(order).filter((kind) => kinds[kind].level === "fault")

it("a clean history has no fault, whatever was pruned, trimmed or is not published yet", () => {
  fc.assert(fc.property(shape(fc.nat(9_000)), (given) => {
    assert.deepStrictEqual(faultsOf(history(given)), [])
    assert.strictEqual(kindsOf(history(given)).filter((kind) => kind === "resend").length, 0)
  }))
})

it("a clean history that is kept and published has no note either", () => {
  fc.assert(fc.property(shape(young), (given) => {
    assert.deepStrictEqual(kindsOf(history({ ...given, waiting: 0 })), [])
  }))
})

it("an event whose row and record are both gone is reported as unknown", () => {
  fc.assert(fc.property(shape(fc.nat(900)), (given) => {
    const found = kindsOf(history({ ...given, waiting: 0, settledAfter: 1 }))
    assert.isNotEmpty(found)
    assert.deepStrictEqual([...new Set(found)], ["unknown"])
  }))
})

const stray = { partition: 3, offset: 2_000_000, at: 9_000, key: 999, exact: true, keyed: true } as const
const terminal = "COMPLETED" as const
const change = <A extends object>(rows: ReadonlyArray<A>, i: number, changes: Partial<A>) =>
  rows.map((row, n) => n === i ? { ...row, ...changes } : row)

/** A paid order with both events published and kept, and a change that must cause exactly one finding. */
const faults: ReadonlyArray<readonly [name: string, expected: Kind, spoil: (order: Draft) => void]> = [
  ["the payment was deleted", "lost-record", (order) => (order.payment = undefined)],
  ["an accepted record without a payment", "lost-record", (order) => {
    order.payment = undefined
    order.events = []
    order.records = []
  }],
  ["the first event was deleted before it was sent", "missing-event", (order) => {
    order.events = order.events.slice(1)
    order.records = order.records.slice(1)
  }],
  ["the last event was deleted before it was sent", "missing-event", (order) => {
    order.events = order.events.slice(0, 1)
    order.records = order.records.slice(0, 1)
  }],
  ["DONE, and not sent", "not-on-topic", (order) => (order.records = order.records.slice(0, 1))],
  ["dead", "dead-event", (order) => {
    order.events = change(order.events, 1, { state: "DEAD", due: false })
    order.records = order.records.slice(0, 1)
  }],
  [
    "the last transition again with another key",
    "double",
    (order) => (order.records = [...order.records, { ...stray, says: terminal }])
  ],
  [
    "the first transition again with another key",
    "double",
    (order) => (order.records = [...order.records, { ...stray, says: "CREATED" }])
  ],
  ["CREATED with another key between the two", "double", (order) => (order.records = [
    order.records[0]!,
    { ...stray, says: "CREATED", offset: order.records[0]!.offset + 1 },
    order.records[1]!
  ])],
  [
    "two rows for one transition",
    "event-twice",
    (order) => (order.events = [...order.events, { ...order.events[1]!, id: 50, key: 50, due: false }])
  ],
  ["the terminal record first", "order-broken", (order) => (order.records = [
    { ...order.records[1]!, offset: order.records[0]!.offset },
    { ...order.records[0]!, offset: order.records[1]!.offset }
  ])],
  [
    "CREATED sent again after the terminal record",
    "late-resend",
    (order) => (order.records = [...order.records, { ...order.records[0]!, offset: 2_000_000 }])
  ],
  [
    "sent again",
    "resend",
    (order) => (order.records = [...order.records, { ...order.records[1]!, offset: 2_000_000 }])
  ],
  ["on two partitions", "split", (order) => (order.records = change(order.records, 1, { partition: 4 }))],
  [
    "the other result on the topic",
    "contradiction",
    (order) => (order.records = [...order.records, { ...stray, says: "FAILED" }])
  ],
  [
    "the other result in the table",
    "contradiction",
    (
      order
    ) => (order.events = [...order.events, {
      ...order.events[1]!,
      id: 50,
      key: 50,
      says: "FAILED",
      due: false
    }])
  ],
  ["the payment says the other", "contradiction", (order) => (order.payment = { ...order.payment!, status: "FAILED" })],
  ["the payment says CREATED", "contradiction", (order) => (order.payment = { ...order.payment!, status: "CREATED" })],
  ["the body has other bytes", "body-differs", (order) => (order.records = change(order.records, 1, { exact: false }))],
  [
    "the body has another status",
    "body-differs",
    (order) => (order.records = change(order.records, 1, { says: "FAILED" }))
  ],
  ["the body has another key", "body-differs", (order) => (order.records = change(order.records, 1, { key: 999 }))],
  [
    "the body cannot be read",
    "body-differs",
    (order) => (order.records = change(order.records, 1, { key: 0, says: undefined, exact: false }))
  ],
  [
    "the record key is not the order",
    "body-differs",
    (order) => (order.records = change(order.records, 1, { keyed: false }))
  ],
  [
    "the row has another status than its record and the payment",
    "row-differs",
    (order) => (order.events = change(order.events, 1, { says: "FAILED" }))
  ],
  ["the row has other bytes", "row-differs", (order) => (order.events = change(order.events, 1, { exact: false }))],
  ["row and record have other bytes", "body-differs", (order) => {
    order.events = change(order.events, 1, { exact: false })
    order.records = change(order.records, 1, { exact: false })
  }],
  ["an operator gave it up", "skipped-event", (order) => {
    order.events = change(order.events, 1, { skipped: true })
    order.records = order.records.slice(0, 1)
  }],
  ["an operator had CREATED announced again", "replayed", (order) => {
    order.events = change(order.events, 0, { replayed: true })
    order.records = [...order.records, { ...order.records[0]!, offset: 2_000_000 }]
  }],
  ["a record of an unknown order", "unknown-record", (order) => {
    order.accepted = []
    order.payment = undefined
    order.events = []
    order.records = order.records.slice(0, 1)
  }],
  [
    "a record without its row, too young to be pruned",
    "unknown-record",
    (order) => (order.events = order.events.slice(1))
  ],
  ["an event of an unknown payment", "unknown-event", (order) => {
    order.accepted = []
    order.payment = undefined
  }],
  ["not consumed yet", "unread", (order) => {
    order.accepted = order.accepted.slice(0, 1).map((record) => ({ ...record, read: false }))
    order.payment = undefined
    order.events = []
    order.records = []
  }]
]

it("each kind of finding names what repairs it", () => {
  for (const kind of Object.keys(kinds) as ReadonlyArray<Kind>) {
    assert.match(
      repairOf({ kind, orderId: 1n, eventId: 2, detail: "" }),
      /payments [a-z]+ |no command: |nothing to do: /,
      kind
    )
  }
})

for (const [name, expected, spoil] of faults) {
  it(`${name}: ${expected}, once`, () => {
    fc.assert(fc.property(shape(young), (given) => {
      const order = history({ ...given, outcome: terminal, waiting: 0, adopted: false })
      spoil(order)
      const found = judge(order, horizon)
      assert.deepStrictEqual(found.map(({ kind }) => kind), [expected])
      assert.strictEqual(found[0]!.orderId, given.orderId)
    }))
  })
}

it("a row without its expired record is no loss, and a record without its pruned row is not unknown", () => {
  fc.assert(fc.property(shape(fc.nat(900)), (given) => {
    const order = history({ ...given, createdAt: given.createdAt + 5_000, settledAfter: 1, waiting: 0 })
    const trimmed = { topicFrom: 9_000, prunedBefore: 0 }
    assert.deepStrictEqual(new Set(kindsOf({ ...order, records: [] }, trimmed)), new Set(["unknown"]))
    const pruned = { topicFrom: 0, prunedBefore: 9_000 }
    assert.deepStrictEqual(kindsOf({ ...order, events: [] }, pruned), [])
  }))
})

it("a record whose key belongs to the payment of another order needs no payment", () => {
  fc.assert(fc.property(shape(young), (given) => {
    const order = history(given)
    const accepted = order.accepted.map((record) => ({ ...record, keyTaken: true }))
    assert.deepStrictEqual(kindsOf({ ...order, accepted, payment: undefined, events: [], records: [] }), [])
  }))
})
