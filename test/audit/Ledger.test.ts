import { assert, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { randomUUID } from "node:crypto"
import * as Decode from "../../src/audit/Decode.js"
import * as Ledger from "../../src/audit/Ledger.js"

const status = fc.constantFrom("CREATED", "COMPLETED", "FAILED")
const key = fc.nat(Number.MAX_SAFE_INTEGER)
const place = fc.nat(Number.MAX_SAFE_INTEGER)
const time = fc.nat(0xffffffff)
const partition = fc.nat(0xffff)
const says = fc.option(status, { nil: undefined })

const fact = fc.oneof(
  fc.record({ kind: fc.constant("accepted"), key, partition, offset: place, read: fc.boolean() }),
  fc.record({ kind: fc.constant("payment"), status, createdAt: time, updatedAt: time }),
  fc.record({
    kind: fc.constant("event"),
    id: place,
    state: fc.constantFrom("WAIT", "DONE", "DEAD"),
    createdAt: time,
    key,
    says,
    exact: fc.boolean(),
    adopted: fc.boolean(),
    due: fc.boolean()
  }),
  fc.record({
    kind: fc.constant("record"),
    partition,
    offset: place,
    at: time,
    key,
    says,
    exact: fc.boolean(),
    keyed: fc.boolean()
  })
)

it("gives back what was put in, by order", () => {
  const orderId = fc.oneof(fc.bigInt(1n, 20n), fc.bigInt(1n, 9223372036854775807n))
  fc.assert(fc.property(fc.array(fc.tuple(orderId, fact), { maxLength: 200 }), (given) => {
    const ledger = Ledger.make()
    for (const [orderId, { kind, ...row }] of given) {
      if (kind === "accepted") ledger.addAccepted(orderId, row as never)
      if (kind === "payment") ledger.addPayment(orderId, row as never, 0)
      if (kind === "event") ledger.addEvent(orderId, row as never)
      if (kind === "record") ledger.addRecord(orderId, row as never)
    }
    const orders = [...new Set(given.map(([orderId]) => orderId))]
    assert.strictEqual(ledger.size(), orders.length)
    orders.forEach((orderId, n) => {
      const of = (wanted: string) =>
        given.flatMap(([id, { kind, ...row }]) => id === orderId && kind === wanted ? [row] : [])
      const facts = ledger.factsOf(n, new Set())
      assert.strictEqual(facts.orderId, orderId)
      assert.isTrue(ledger.has(orderId))
      assert.deepStrictEqual(facts.accepted, of("accepted").map((row) => ({ ...row, keyTaken: false })) as never)
      assert.sameDeepMembers([...facts.events], of("event") as never)
      assert.sameDeepMembers([...facts.records], of("record") as never)
      if (facts.payment !== undefined) assert.deepInclude(of("payment"), facts.payment as never)
      else assert.lengthOf(of("payment"), 0)
    })
  }))
})

it("holds a hundred thousand orders, and tells them apart", () => {
  const ledger = Ledger.make()
  const id = (n: number) => BigInt(n) * 9_000_000_000_001n + 1n
  for (let n = 0; n < 100_000; n++) {
    ledger.addRecord(id(n), { partition: 1, offset: n, at: n, key: n, says: "FAILED", exact: true, keyed: true })
  }
  for (let n = 0; n < 100_000; n += 997) {
    const { orderId, records } = ledger.factsOf(n, new Set())
    assert.deepStrictEqual([orderId, records.map(({ offset }) => offset)], [id(n), [n]])
  }
  assert.isFalse(ledger.has(2n))
})

it("knows the keys of orders without a payment that another payment has", () => {
  const ledger = Ledger.make()
  const record = { partition: 0, offset: 1, read: true }
  ledger.addAccepted(1n, { ...record, key: 11 })
  ledger.addAccepted(2n, { ...record, key: 11 })
  ledger.addAccepted(3n, { ...record, key: 33 })
  ledger.addPayment(1n, { status: "CREATED", createdAt: 1, updatedAt: 1 }, 11)
  const taken = ledger.takenKeys()
  assert.deepStrictEqual([...taken], [11])
  assert.isTrue(ledger.factsOf(1, taken).accepted[0]!.keyTaken)
  assert.isFalse(ledger.factsOf(2, taken).accepted[0]!.keyTaken)
})

it("digests of keys differ, also when one character does", () => {
  const keys = Array.from({ length: 200_000 }, () => randomUUID())
  const numbered = Array.from({ length: 200_000 }, (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`)
  const digests = new Set([...keys, ...numbered].map(Decode.digest))
  assert.strictEqual(digests.size, 400_000)
  assert.isTrue([...digests].every((digest) => Number.isSafeInteger(digest) && digest > 0))
})

const uuid = "0b9f2f0e-6a51-4a7c-9b55-3f0d4c2a1e77"
const body = (text: string) => Decode.payment(Buffer.from(text))

it("a body is exact only with the three fields in their order and nothing more", () => {
  const exact = body(`{"idempotent_key":"${uuid}","order_id":9223372036854775807,"status":"FAILED"}`)
  assert.deepStrictEqual(exact, {
    orderId: 9223372036854775807n,
    key: Decode.digest(uuid),
    says: "FAILED",
    exact: true
  })
  for (
    const text of [
      `{"idempotent_key": "${uuid}","order_id":9223372036854775807,"status":"FAILED"}`,
      `{"order_id":9223372036854775807,"idempotent_key":"${uuid}","status":"FAILED"}`,
      `{"idempotent_key":"${uuid}","order_id":9223372036854775807,"status":"FAILED","more":1}`,
      `{"idempotent_key":"${uuid.toUpperCase()}","order_id":9223372036854775807,"status":"FAILED"}`
    ]
  ) assert.deepStrictEqual(body(text), { ...exact!, exact: false })
  for (
    const text of [
      "",
      "no json",
      `{"idempotent_key":"${uuid}","order_id":0,"status":"FAILED"}`,
      `{"idempotent_key":"${uuid}","order_id":9223372036854775808,"status":"FAILED"}`,
      `{"idempotent_key":"${uuid}","order_id":1,"status":"PAID"}`
    ]
  ) assert.isUndefined(body(text))
  assert.isUndefined(Decode.payment(null))
})
