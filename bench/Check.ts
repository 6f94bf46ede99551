import { readOf } from "./Record.js"
import type { Read } from "./Topics.js"
import type { World } from "./World.js"
import { historyFrom } from "./World.js"

/** A run with a wrong result, which has no figure. */
export class CheckFailed extends Error {}

const expect = (what: string, actual: number, expected: number) => {
  if (actual !== expected) throw new CheckFailed(`${what}: ${actual}, not ${expected}`)
}

/** Checks for one payment and one event of each order from 1 to `orders`, besides those of the template. */
export const reserved = async (world: World, orders: number) => {
  const [row] = await world.query<Record<"payments" | "orders" | "events" | "told", string>>(
    `
    SELECT (SELECT count(*) FROM payment WHERE status = 'CREATED') AS payments,
           (SELECT count(DISTINCT order_id) FROM payment WHERE order_id BETWEEN 1 AND $1) AS orders,
           (SELECT count(*) FROM event WHERE order_id < ${historyFrom}) AS events,
           (SELECT count(DISTINCT order_id) FROM event WHERE order_id < ${historyFrom}) AS told
  `,
    [orders]
  )
  expect("payments", Number(row!.payments), orders)
  expect("orders with a payment", Number(row!.orders), orders)
  expect("events", Number(row!.events), orders)
  expect("orders with an event", Number(row!.told), orders)
}

/** Checks that each of `orders` payments is settled and has one event with that status. */
export const settled = async (world: World, orders: number) => {
  const [row] = await world.query<Record<"payments" | "events" | "told", string>>(`
    SELECT (SELECT count(*) FROM payment WHERE status = 'COMPLETED') AS payments,
           (SELECT count(*) FROM event) AS events,
           (SELECT count(DISTINCT order_id) FROM event WHERE payload LIKE '%"COMPLETED"}') AS told
  `)
  expect("settled payments", Number(row!.payments), orders)
  expect("events", Number(row!.events), orders)
  expect("orders with an event", Number(row!.told), orders)
}

/** Checks that every event is on the topic once, and the events of an order in order in one partition. */
export const published = (records: ReadonlyArray<Read>, orders: number, statuses: ReadonlyArray<string>) => {
  expect("records", records.length, orders * statuses.length)
  const keys = new Set<string>()
  const seen = new Map<string, { readonly partition: number; count: number }>()
  for (const record of records) {
    const { idempotentKey, order, status } = readOf(record.value)
    keys.add(idempotentKey)
    if (record.key !== order) throw new CheckFailed(`record of order ${order} has key ${record.key}`)
    const before = seen.get(order) ?? { partition: record.partition, count: 0 }
    if (before.partition !== record.partition) throw new CheckFailed(`order ${order} is in two partitions`)
    if (statuses[before.count] !== status) throw new CheckFailed(`order ${order}: ${status} is out of order`)
    before.count++
    seen.set(order, before)
  }
  expect("different events", keys.size, records.length)
  expect("orders on the topic", seen.size, orders)
}

/** Checks that each of `orders` orders is on the topic once, with the status of `statusOf`. */
export const once = (records: ReadonlyArray<Read>, statusOf: (order: number) => string, orders: number) => {
  expect("records", records.length, orders)
  const seen = new Set<string>()
  for (const { value } of records) {
    const { order, status } = readOf(value)
    if (status !== statusOf(Number(order))) throw new CheckFailed(`order ${order}: ${status}`)
    seen.add(order)
  }
  expect("orders on the topic", seen.size, orders)
}
