import type { IHeaders } from "kafkajs"

type Value = Buffer | string | null | undefined

type Incoming = Readonly<Record<string, Value | ReadonlyArray<Value>>>

/**
 * For a header with the name of a member of every object, as `constructor`, kafkajs 2.2.4 reads two values: that member and
 * the value of the header.
 */
const isValue = (value: Value) => value == null || typeof value === "string" || Buffer.isBuffer(value)

/** Makes headers that were read writable again. A value may be null, which the types of kafkajs do not allow. */
export const writable = (headers: Incoming | undefined): IHeaders =>
  Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [name, Array.isArray(value) ? value.filter(isValue) : value])
  ) as IHeaders
