import type { IncomingHeaders } from "../KafkaRecord.js"

const define = (headers: object, name: string, value: unknown) =>
  Object.defineProperty(headers, name, { value, enumerable: true, configurable: true, writable: true })

/** Adds a value to the headers of a record. A name may come several times, and may be one that every object knows. */
export const addHeader = (headers: IncomingHeaders, name: string, value: Buffer | null) => {
  const there: unknown = Object.hasOwn(headers, name) ? headers[name] : undefined
  if (Array.isArray(there)) there.push(value)
  // to assign to this name would set the prototype
  else if (name === "__proto__") define(headers, name, there === undefined ? value : [there, value])
  // null too is a value, though the types of kafkajs do not know it
  else headers[name] = (there === undefined ? value : [there, value]) as Buffer
}
