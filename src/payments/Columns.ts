import type { OrderId } from "../domain/Payment.js"
import type { Announcement } from "../outbox/Append.js"

/** An array of what needs no quotes: numbers, uuids, names. The driver quotes and escapes each element. */
export const plain = (values: ReadonlyArray<bigint | string>) => `{${values.join(",")}}`
/** No payload and no traceparent has a line break, and an array of texts is many times as dear to write. */
export const lines = (values: ReadonlyArray<string | null>) => values.join("\n")

/** Announcements by the order that they tell of. */
export const byOrder = (announcements: ReadonlyArray<Announcement & { readonly orderId: OrderId }>) =>
  new Map(announcements.map((_) => [_.orderId, _]))
