import { Either, Schema } from "effect"
import * as InventoryEvent from "./InventoryEvent.js"
import type { OrderId } from "./Payment.js"
import { PaymentStatus } from "./Payment.js"

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

/** True for the text of a status of a payment. */
export const isStatus = Schema.is(PaymentStatus)

/** Decodes a record value in any JSON form, as readers of the topic do. Undefined when it is no payment event. */
export const decode = (value: Buffer | null): PaymentEvent | undefined => {
  // a payment event has the three fields of an inventory event
  const decoded = InventoryEvent.decode(value)
  if (Either.isLeft(decoded)) return undefined
  const { idempotentKey, orderId, status } = decoded.right
  return isStatus(status) ? { idempotentKey, orderId, status } : undefined
}
