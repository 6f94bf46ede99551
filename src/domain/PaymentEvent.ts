import type { OrderId, PaymentStatus } from "./Payment.js"

/** What topic `payment` says of an order: its payment has reached `status`. */
export interface PaymentEvent {
  /** Made once, when the event is written; every resend carries the same one. */
  readonly idempotentKey: string
  readonly orderId: OrderId
  readonly status: PaymentStatus
}

/** The record's value: exactly these three fields in this order. The readers of the topic rely on the bytes. */
export const encode = ({ idempotentKey, orderId, status }: PaymentEvent): string =>
  `{"idempotent_key":"${idempotentKey}","order_id":${orderId},"status":"${status}"}`
