import { api } from "../Calls.js"

const record = (orderId: string, key: string) =>
  `{"idempotent_key": "${key}", "order_id": ${orderId}, "status": "COMPLETED"}`

const first = record("111", "d978c560-fdba-4e84-b3f1-b570d8d95e4c")

/** The record of another order: the next order id, with a new key. */
export const fresh = (value: string) => {
  const orderId = /"order_id"\s*:\s*(\d+)/.exec(value)?.[1]
  return record(String(BigInt(orderId ?? "110") + 1n), crypto.randomUUID())
}

/** The order of the example; it stays the same on this page. */
let example: { readonly orderId: string; readonly value: string } | undefined

/** The order that the tour walks: 111, or the next one where order 111 has a payment already. */
export const find = async () => {
  if (example !== undefined) return example
  const { orders } = await api.orders({ order_id: "111" })
  if (orders.length === 0) return example = { orderId: "111", value: first }
  const newest = await api.orders({ limit: 50 })
  const ids = newest.orders.map(({ order_id }) => BigInt(order_id)).filter((id) => id >= 111n && id < 1_000_000n)
  const next = ids.reduce((most, id) => id > most ? id : most, 111n) + 1n
  return example = { orderId: String(next), value: record(String(next), crypto.randomUUID()) }
}

/** The value of the example; that of order 111 when the orders cannot be read. */
export const load = () => find().then(({ value }) => value, () => first)

/** Forgets the example: the next tour takes another order. */
export const forget = () => {
  example = undefined
}
