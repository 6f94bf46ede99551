import type { Option } from "effect"
import type { OrderId } from "../domain/Payment.js"
import type { OrderKey } from "./PaymentReads.js"

/** An order whose stock is reserved: it gets a payment. */
export interface Reservation {
  readonly orderId: OrderId
  readonly idempotentKey: string
  /** W3C trace context of its inventory record. */
  readonly traceparent: Option.Option<string>
}

/** Result of a reservation. */
export type ReservationResult =
  | { readonly _tag: "Created" }
  /** The payment of this order was created by this key before. */
  | { readonly _tag: "Repeated" }
  /** The order has a payment that another key created. */
  | { readonly _tag: "OrderTaken" }
  /** The key belongs to another order. */
  | { readonly _tag: "KeyTaken"; readonly by: OrderId }

export const created: ReservationResult = { _tag: "Created" }

/** The first reservation of each order and of each key. */
export const firstOfEach = (reservations: ReadonlyArray<Reservation>): ReadonlyArray<Reservation> => {
  const orders = new Set<OrderId>()
  const keys = new Set<string>()
  return reservations.filter(({ idempotentKey, orderId }) => {
    if (orders.has(orderId) || keys.has(idempotentKey)) return false
    orders.add(orderId)
    keys.add(idempotentKey)
    return true
  })
}

/** Results of the reservations whose order or key has a payment in `existing`; leaves out the others. */
export const repeats = (
  reservations: ReadonlyArray<Reservation>,
  existing: ReadonlyArray<OrderKey>
): ReadonlyArray<readonly [Reservation, ReservationResult]> => {
  const keyOf = new Map(existing.map((_) => [_.orderId, _.inventoryKey]))
  const orderOf = new Map(existing.map((_) => [_.inventoryKey, _.orderId]))
  return reservations.flatMap((reservation): ReadonlyArray<readonly [Reservation, ReservationResult]> => {
    const { idempotentKey, orderId } = reservation
    const by = orderOf.get(idempotentKey)
    if (by !== undefined && by !== orderId) return [[reservation, { _tag: "KeyTaken", by }]]
    if (!keyOf.has(orderId)) return []
    return [[reservation, { _tag: keyOf.get(orderId) === idempotentKey ? "Repeated" : "OrderTaken" }]]
  })
}
