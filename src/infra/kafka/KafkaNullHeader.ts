import type { IHeaders } from "kafkajs"

type Value = Buffer | string | null | undefined

type Incoming = Readonly<Record<string, Value | ReadonlyArray<Value>>>

/**
 * Of a header whose name every object knows, as `constructor`, kafkajs 2.2.4 says that it was there twice: with what
 * every object has by that name, and with its value.
 */
const isValue = (value: Value) => value == null || typeof value === "string" || Buffer.isBuffer(value)

/** Headers as they were read, to be written again; null is a value too, though the types of kafkajs do not say so. */
export const writable = (headers: Incoming | undefined): IHeaders =>
  Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [name, Array.isArray(value) ? value.filter(isValue) : value])
  ) as IHeaders
