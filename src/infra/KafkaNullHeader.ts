import type { IHeaders } from "kafkajs"
import { createRequire } from "node:module"

type Value = Buffer | string | null | undefined

const Encoder = createRequire(import.meta.url)("kafkajs/src/protocol/encoder") as {
  readonly prototype: { writeVarIntBytes: (value: Value) => unknown }
}

/** Stands for a header value that is null: kafkajs 2.2.4 reads those, and throws when it counts the bytes to write one. */
const none = Buffer.alloc(0)

const write = Encoder.prototype.writeVarIntBytes
// the lengths 0 and -1 take one byte both: what was counted for the empty value is right for null
Encoder.prototype.writeVarIntBytes = function(value) {
  return write.call(this, value === none ? null : value)
}

type Incoming = Readonly<Record<string, Value | ReadonlyArray<Value>>>

/**
 * Of a header whose name every object knows, as `constructor`, kafkajs 2.2.4 says that it was there twice: with what
 * every object has by that name, and with its value.
 */
const isValue = (value: Value) => value == null || typeof value === "string" || Buffer.isBuffer(value)

/** Headers as they were read, so that kafkajs can write them again. */
export const writable = (headers: Incoming | undefined): IHeaders =>
  Object.fromEntries(
    Object.entries(headers ?? {}).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.filter(isValue).map((_: Value) => _ ?? none) : (value as Value) ?? none
    ])
  )
