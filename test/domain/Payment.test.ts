import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc, Schema } from "effect"
import type { PaymentStatus, TerminalStatus } from "../../src/domain/Payment.js"
import { OrderId, PaymentAlreadySettled, PaymentNotFound, settlement } from "../../src/domain/Payment.js"

describe("settlement", () => {
  const table: ReadonlyArray<readonly [PaymentStatus, TerminalStatus, "settle" | "keep" | "refuse"]> = [
    ["CREATED", "COMPLETED", "settle"],
    ["CREATED", "FAILED", "settle"],
    ["COMPLETED", "COMPLETED", "keep"],
    ["COMPLETED", "FAILED", "refuse"],
    ["FAILED", "COMPLETED", "refuse"],
    ["FAILED", "FAILED", "keep"]
  ]

  for (const [status, outcome, what] of table) {
    it(`${status} asked for ${outcome}: ${what}`, () => assert.strictEqual(settlement[status][outcome], what))
  }

  it("the table has these cells and no other", () =>
    assert.sameMembers(
      Object.entries(settlement).flatMap(([status, row]) => Object.keys(row).map((outcome) => `${status} ${outcome}`)),
      table.map(([status, outcome]) => `${status} ${outcome}`)
    ))
})

describe("OrderId", () => {
  const decode = Schema.decodeUnknownEither(OrderId)

  it("is 1 to 2^63 - 1, and nothing beside it", () => {
    for (const id of [1n, 2n, 9007199254740993n, 2n ** 63n - 1n]) assert.strictEqual(Either.getOrThrow(decode(id)), id)
    for (const id of [0n, -1n, -(2n ** 63n), 2n ** 63n, 2n ** 64n]) assert.isTrue(Either.isLeft(decode(id)), `${id}`)
    for (const id of [1, "1", null, undefined, 1.5]) assert.isTrue(Either.isLeft(decode(id)), `${id}`)
  })

  it("any int64 above zero", () =>
    fc.assert(
      fc.property(fc.bigInt(-(2n ** 65n), 2n ** 65n), (id) => Schema.is(OrderId)(id) === (id > 0n && id < 2n ** 63n))
    ))

  it("the errors name the order in full", () => {
    const orderId = OrderId.make(9007199254740993n)
    assert.strictEqual(new PaymentNotFound({ orderId }).message, "order 9007199254740993 has no payment")
    assert.strictEqual(
      new PaymentAlreadySettled({ orderId, status: "FAILED", expired: false }).message,
      "the payment of order 9007199254740993 is FAILED already"
    )
    assert.strictEqual(
      new PaymentAlreadySettled({ orderId, status: "FAILED", expired: true }).message,
      "the payment of order 9007199254740993 has expired: it is FAILED"
    )
  })
})
