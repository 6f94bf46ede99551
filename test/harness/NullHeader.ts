import { createRequire } from "node:module"

/** A header value that is written as null, as Java clients do. kafkajs reads such headers but cannot write them. */
export const nullHeader = Buffer.alloc(0)

const Encoder = createRequire(import.meta.url)("kafkajs/src/protocol/encoder") as {
  readonly prototype: { writeVarIntBytes: (value: Buffer | null) => unknown }
}
const write = Encoder.prototype.writeVarIntBytes
// both lengths, 0 and -1, are one byte: all sizes that were counted before stay true
Encoder.prototype.writeVarIntBytes = function(value) {
  return write.call(this, value === nullHeader ? null : value)
}
