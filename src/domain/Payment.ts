import { Schema } from "effect"

/** An order, as every service of the saga numbers it: 1 to 2^63 - 1. */
export const OrderId = Schema.BigIntFromSelf.pipe(
  Schema.betweenBigInt(1n, 9223372036854775807n),
  Schema.brand("OrderId")
)
export type OrderId = typeof OrderId.Type

export const PaymentStatus = Schema.Literal("CREATED", "COMPLETED", "FAILED")
export type PaymentStatus = typeof PaymentStatus.Type

/** How a payment may end: paid, or not paid. */
export const Outcome = Schema.Literal("COMPLETED", "FAILED")
export type Outcome = typeof Outcome.Type

export class Payment extends Schema.Class<Payment>("Payment")({
  orderId: OrderId,
  status: PaymentStatus,
  createdAt: Schema.DateFromSelf,
  updatedAt: Schema.DateFromSelf
}) {}

/**
 * What asking for an outcome does in each state:
 * `settle` moves the payment, `keep` finds it there already, `refuse` leaves a terminal payment as it is.
 */
export const settlement = {
  CREATED: { COMPLETED: "settle", FAILED: "settle" },
  COMPLETED: { COMPLETED: "keep", FAILED: "refuse" },
  FAILED: { COMPLETED: "refuse", FAILED: "keep" }
} as const satisfies Record<PaymentStatus, Record<Outcome, "settle" | "keep" | "refuse">>

/** The order has no payment: it was never reserved, or its record has not been read yet. */
export class PaymentNotFound extends Schema.TaggedError<PaymentNotFound>()("PaymentNotFound", {
  orderId: OrderId
}) {
  override get message() {
    return `order ${this.orderId} has no payment`
  }
}

/** The payment ended the other way; a terminal payment never changes. */
export class PaymentAlreadySettled extends Schema.TaggedError<PaymentAlreadySettled>()("PaymentAlreadySettled", {
  orderId: OrderId,
  status: Outcome
}) {
  override get message() {
    return `the payment of order ${this.orderId} is ${this.status} already`
  }
}
