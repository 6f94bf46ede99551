import type { Option } from "effect"
import type { OrderId } from "../domain/Payment.js"
import type { Known } from "./Creation.js"

/** An order whose stock is reserved, so that it can be paid. */
export interface Reservation {
  readonly orderId: OrderId
  readonly idempotentKey: string
  /** W3C trace context of the record that said so. */
  readonly traceparent: Option.Option<string>
}

/** What became of a reservation. */
export type Decision =
  | { readonly _tag: "Created" }
  /** The same record again. */
  | { readonly _tag: "Repeated" }
  /** The order has a payment that another key created. */
  | { readonly _tag: "OrderTaken" }
  /** The key belongs to another order. */
  | { readonly _tag: "KeyTaken"; readonly by: OrderId }

export const created: Decision = { _tag: "Created" }

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

/** Decides the reservations whose order or key is known already; leaves out the others. */
export const repeats = (
  reservations: ReadonlyArray<Reservation>,
  known: ReadonlyArray<Known>
): ReadonlyArray<readonly [Reservation, Decision]> => {
  const keyOf = new Map(known.map((_) => [_.orderId, _.inventoryKey]))
  const orderOf = new Map(known.map((_) => [_.inventoryKey, _.orderId]))
  return reservations.flatMap((reservation): ReadonlyArray<readonly [Reservation, Decision]> => {
    const { idempotentKey, orderId } = reservation
    const by = orderOf.get(idempotentKey)
    if (by !== undefined && by !== orderId) return [[reservation, { _tag: "KeyTaken", by }]]
    if (!keyOf.has(orderId)) return []
    return [[reservation, { _tag: keyOf.get(orderId) === idempotentKey ? "Repeated" : "OrderTaken" }]]
  })
}
