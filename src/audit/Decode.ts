import type { PaymentStatus } from "../domain/Payment.js"
import * as PaymentEvent from "../domain/PaymentEvent.js"
import type { KeyDigest } from "./Facts.js"

/** Digest of an idempotency key: two lanes of multiply and rotate, 53 bits of both. 0 stands for no key. */
export const digest = (key: string): KeyDigest => {
  let a = 0x9e3779b9
  let b = 0x85ebca6b
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i)
    a = Math.imul(a ^ code, 0x01000193)
    a = (a << 13) | (a >>> 19)
    b = Math.imul(b + code, 0xc2b2ae35)
    b = (b << 7) | (b >>> 25)
  }
  a = Math.imul(a ^ (b >>> 16), 0x27d4eb2f)
  b = Math.imul(b ^ (a >>> 13), 0x165667b1)
  return (b & 0x1fffff) * 0x1_0000_0000 + (a >>> 0)
}

/** A decoded body of a payment event. */
export interface Body {
  readonly orderId: bigint
  readonly key: KeyDigest
  readonly says: PaymentStatus
  /** True when the body has exactly the three fields, in their order, byte for byte. */
  readonly exact: boolean
}

const canonical =
  /^\{"idempotent_key":"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})","order_id":([1-9]\d{0,18}),"status":"(\w+)"\}$/
const limit = 9223372036854775807n

/** Decodes a payment event, also in another JSON form, as readers of the topic do. Undefined when it is none. */
export const payment = (value: Buffer | null): Body | undefined => {
  const [, key, order, status] = canonical.exec(value?.toString() ?? "") ?? []
  if (key !== undefined && PaymentEvent.isStatus(status) && BigInt(order!) <= limit) {
    return { orderId: BigInt(order!), key: digest(key), says: status, exact: true }
  }
  const event = PaymentEvent.decode(value)
  return event && { orderId: event.orderId, key: digest(event.idempotentKey), says: event.status, exact: false }
}

/** The order id in a record key; undefined when the key is something else. */
export const orderOf = (key: Buffer | null): bigint | undefined => {
  const text = key?.toString() ?? ""
  return /^[1-9]\d{0,18}$/.test(text) && BigInt(text) <= limit ? BigInt(text) : undefined
}
