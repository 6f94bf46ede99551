import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import { randomUUID } from "node:crypto"
import * as InventoryEvent from "../../src/domain/InventoryEvent.js"
import { OrderId } from "../../src/domain/Payment.js"
import type { IncomingRecord } from "../../src/infra/kafka/KafkaConsumer.js"
import { triage } from "../../src/inventory/Triage.js"

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
const key = randomUUID()
const orderId = OrderId.make(9007199254740993n)

const record = (value: string | null, headers?: IncomingRecord["headers"]): IncomingRecord => ({
  key: Buffer.from("any key"),
  value: value === null ? null : Buffer.from(value),
  offset: "0",
  timestamp: "0",
  ...(headers === undefined ? {} : { headers })
})
const event = (status: string, headers?: IncomingRecord["headers"]) =>
  record(InventoryEvent.encode({ idempotentKey: key, orderId, status }), headers)

const standard = new Set(["COMPLETED"])
const besideGo = new Set(["COMPLETED", "CREATED"])
const outcome = (status: string, accepted: ReadonlySet<string>) => {
  const { ignored, malformed, reservations } = triage([event(status)], accepted)
  assert.lengthOf(malformed, 0)
  return reservations.length === 1 ? "reserved" : ignored.length === 1 ? `ignored ${ignored[0]}` : "lost"
}

describe("triage", () => {
  it("a status on the list is a reservation", () =>
    assert.deepStrictEqual(triage([event("COMPLETED")], standard), {
      reservations: [{ idempotentKey: key, orderId, traceparent: Option.none() }],
      ignored: [],
      malformed: []
    }))

  it("the default accepts COMPLETED only; the setting for the Go services also CREATED", () => {
    assert.strictEqual(outcome("COMPLETED", standard), "reserved")
    assert.strictEqual(outcome("CREATED", standard), "ignored CREATED")
    assert.strictEqual(outcome("FAILED", standard), "ignored FAILED")
    assert.strictEqual(outcome("COMPLETED", besideGo), "reserved")
    assert.strictEqual(outcome("CREATED", besideGo), "reserved")
    assert.strictEqual(outcome("FAILED", besideGo), "ignored FAILED")
  })

  it("a status is matched exactly", () => {
    const nearly = [
      "completed",
      "Completed",
      " COMPLETED",
      "COMPLETED ",
      "COMPLETED\n",
      "COMPLETE",
      "COMPLETEDX",
      "",
      "ＣOMPLETED"
    ]
    for (const status of nearly) assert.strictEqual(outcome(status, besideGo), `ignored ${status}`)
    for (const status of ["__proto__", "constructor", "COMPLETED,CREATED"]) {
      assert.strictEqual(outcome(status, besideGo), `ignored ${status}`)
    }
  })

  it("a malformed record is kept unchanged, with the reason", () => {
    const records = [
      record(null),
      record("hunter2"),
      record("{}", { traceparent }),
      event("COMPLETED"),
      event("FAILED")
    ]
    const { ignored, malformed, reservations } = triage(records, standard)
    assert.deepStrictEqual([reservations.length, ignored], [1, ["FAILED"]])
    assert.deepStrictEqual(malformed.map(({ reason }) => reason), [
      "record has no value",
      "value is not JSON",
      "idempotent_key is not a uuid"
    ])
    malformed.forEach(({ record }, i) => assert.strictEqual(record, records[i]))
  })

  it("an undecodable record is malformed, whatever its status", () =>
    assert.lengthOf(
      triage([record(`{"idempotent_key":"${key}","order_id":0,"status":"FAILED"}`)], standard).malformed,
      1
    ))

  it("a record that is too large or was not read whole is malformed and not decoded", () => {
    const good = event("COMPLETED")
    const mebibyte = 1024 * 1024
    const headers = (count: number, bytes: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`${i}`, Buffer.alloc(bytes)]))
    const reasonOf = (other: Partial<IncomingRecord>) => triage([{ ...good, ...other }], standard).malformed[0]?.reason
    const padded = (length: number) => Buffer.concat([good.value!, Buffer.alloc(length - good.value!.length, " ")])
    assert.isUndefined(reasonOf({ value: padded(mebibyte), key: Buffer.alloc(mebibyte), headers: headers(1_000, 0) }))
    assert.strictEqual(reasonOf({ value: padded(mebibyte + 1) }), "value is larger than 1048576 bytes")
    assert.strictEqual(reasonOf({ key: Buffer.alloc(mebibyte + 1) }), "key is larger than 1048576 bytes")
    assert.strictEqual(reasonOf({ headers: headers(1_001, 0) }), "record has more than 1000 headers")
    assert.strictEqual(
      reasonOf({ headers: { twice: Array.from({ length: 1_001 }, () => Buffer.of(1)) } }),
      "record has more than 1000 headers"
    )
    assert.strictEqual(reasonOf({ headers: headers(2, mebibyte / 2) }), "headers are larger than 1048576 bytes")
    assert.strictEqual(reasonOf({ unread: { reason: "told", bytes: 1, sha256: "" } }), "told")
  })

  it("reservations keep the order of the records", () => {
    const records = [3n, 1n, 2n].map((id) =>
      record(InventoryEvent.encode({ idempotentKey: randomUUID(), orderId: OrderId.make(id), status: "COMPLETED" }))
    )
    assert.deepStrictEqual(triage(records, standard).reservations.map(({ orderId }) => orderId), [3n, 1n, 2n])
    assert.deepStrictEqual(triage([], standard), { reservations: [], ignored: [], malformed: [] })
  })

  it("a valid traceparent is passed on, any other value is not", () => {
    const carried = (headers?: IncomingRecord["headers"]) =>
      Option.getOrNull(triage([event("COMPLETED", headers)], standard).reservations[0]!.traceparent)
    assert.strictEqual(carried({ traceparent }), traceparent)
    assert.strictEqual(carried({ traceparent: Buffer.from(traceparent) }), traceparent)
    assert.strictEqual(carried({ other: "x", traceparent }), traceparent)
    assert.isNull(carried())
    assert.isNull(carried({}))
    assert.isNull(carried({ tracestate: "a=b" }))
    assert.isNull(carried({ traceparent: undefined }))
    assert.isNull(carried({ traceparent: "" }))
    assert.isNull(carried({ traceparent: Buffer.of(0xff, 0x00) }))
    assert.isNull(carried({ traceparent: `${traceparent} ` }))
    assert.isNull(carried({ traceparent: traceparent.toUpperCase() }))
    assert.isNull(carried({ traceparent: `00-${"0".repeat(32)}-b7ad6b7169203331-01` }))
    // written twice, so ambiguous
    assert.isNull(carried({ traceparent: [traceparent, traceparent] }))
  })
})
