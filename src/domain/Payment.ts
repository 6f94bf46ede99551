import { Schema } from "effect"

/** Order id, shared by all services of the saga: 1 to 2^63 - 1. */
export const OrderId = Schema.BigIntFromSelf.pipe(
  Schema.betweenBigInt(1n, 9223372036854775807n),
  Schema.brand("OrderId")
)
export type OrderId = typeof OrderId.Type

export const PaymentStatus = Schema.Literal("CREATED", "COMPLETED", "FAILED")
export type PaymentStatus = typeof PaymentStatus.Type

/** Terminal status of a payment: paid, or not paid. */
export const TerminalStatus = Schema.Literal("COMPLETED", "FAILED")
export type TerminalStatus = typeof TerminalStatus.Type

export class Payment extends Schema.Class<Payment>("Payment")({
  orderId: OrderId,
  status: PaymentStatus,
  createdAt: Schema.DateFromSelf,
  updatedAt: Schema.DateFromSelf,
  /** Name of the caller that settled it; `expiry` when no call did. None for a caller without a name. */
  settledBy: Schema.OptionFromSelf(Schema.String)
}) {}

/**
 * Effect of a settlement, by the status of the payment and the status asked for: `settle` changes the status, `keep` finds the
 * asked status, `refuse` leaves the other terminal status unchanged.
 */
export const settlement = {
  CREATED: { COMPLETED: "settle", FAILED: "settle" },
  COMPLETED: { COMPLETED: "keep", FAILED: "refuse" },
  FAILED: { COMPLETED: "refuse", FAILED: "keep" }
} as const satisfies Record<PaymentStatus, Record<TerminalStatus, "settle" | "keep" | "refuse">>

/** The order has no payment: it was never reserved, or its record has not been read yet. */
export class PaymentNotFound extends Schema.TaggedError<PaymentNotFound>()("PaymentNotFound", {
  orderId: OrderId
}) {
  override get message() {
    return `order ${this.orderId} has no payment`
  }
}

/** The payment has the opposite terminal status, which never changes. */
export class PaymentAlreadySettled extends Schema.TaggedError<PaymentAlreadySettled>()("PaymentAlreadySettled", {
  orderId: OrderId,
  status: TerminalStatus,
  /** True when no call failed the payment: it was CREATED for longer than PAYMENT_EXPIRY. */
  expired: Schema.Boolean
}) {
  override get message() {
    return this.expired
      ? `the payment of order ${this.orderId} has expired: it is ${this.status}`
      : `the payment of order ${this.orderId} is ${this.status} already`
  }
}
