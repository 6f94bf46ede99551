import type { IncomingHeaders } from "../KafkaRecord.js"

const define = (headers: object, name: string, value: unknown) =>
  Object.defineProperty(headers, name, { value, enumerable: true, configurable: true, writable: true })

/** Adds a value to the headers of a record. A name may occur several times, and may be a member of every object. */
export const addHeader = (headers: IncomingHeaders, name: string, value: Buffer | null) => {
  const there: unknown = Object.hasOwn(headers, name) ? headers[name] : undefined
  if (Array.isArray(there)) there.push(value)
  // an assignment would set the prototype
  else if (name === "__proto__") define(headers, name, there === undefined ? value : [there, value])
  // a value may be null, which the types of kafkajs do not allow
  else headers[name] = (there === undefined ? value : [there, value]) as Buffer
}
