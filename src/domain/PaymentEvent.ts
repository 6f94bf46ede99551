import type { OrderId, PaymentStatus } from "./Payment.js"

/** Event on topic `payment`: the payment of an order reached `status`. */
export interface PaymentEvent {
  /** Made when the event row is inserted. Every resend carries the same key. */
  readonly idempotentKey: string
  readonly orderId: OrderId
  readonly status: PaymentStatus
}

/** Encodes the record value: exactly three fields in this order (CONTRACT: Kafka out). Consumers rely on the bytes. */
export const encode = ({ idempotentKey, orderId, status }: PaymentEvent): string =>
  `{"idempotent_key":"${idempotentKey}","order_id":${orderId},"status":"${status}"}`
