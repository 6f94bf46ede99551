import { FastCheck as fc } from "effect"
import { randomUUID } from "node:crypto"
import { nullHeader } from "../../harness/StockKafkajs.js"

/** In what strangers send, and nowhere in a log. */
export const secret = "hunter2-hunter2"

export interface Stranger {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Record<string, Buffer | Array<Buffer>>
}

const bytes = fc.uint8Array({ maxLength: 60 }).map((_) => Buffer.from(_))
const text = fc.oneof(fc.string({ unit: "binary", maxLength: 12 }), fc.constant(secret)).map((_) => JSON.stringify(_))

const { value: json } = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom("true", "false", "null", "-0", "1e3", "1E+400", "-12.5e-7", "9223372036854775808", "1".repeat(400)),
    text,
    fc.array(tie("value"), { maxLength: 3 }).map((items) => `[${items.join(",")}]`),
    fc.array(fc.tuple(text, tie("value")), { maxLength: 3 }).map((members) =>
      `{${members.map(([name, value]) => `${name}:${value}`).join(",")}}`
    )
  )
}))

const uuid = fc.uuid().map((_) => JSON.stringify(_))
const orderId = fc.bigInt(1n, 2n ** 63n - 1n).map(String)
const field = (good: fc.Arbitrary<string>) => fc.oneof({ weight: 4, arbitrary: good }, { weight: 1, arbitrary: json })
const name = (right: string) =>
  fc.oneof({ weight: 9, arbitrary: fc.constant(right) }, {
    weight: 1,
    arbitrary: fc.constantFrom(right.toUpperCase(), "__proto__", "constructor", `${right} `)
  })

/** Something like an event: fields that are missing, there twice, or of another type. */
const nearly = fc.tuple(
  fc.array(
    fc.oneof(
      fc.tuple(name("idempotent_key"), field(uuid)),
      fc.tuple(name("order_id"), field(orderId)),
      fc.tuple(name("status"), field(fc.constantFrom("\"COMPLETED\"", "\"CREATED\"", "\"completed\"")))
    ),
    { maxLength: 6 }
  ),
  uuid,
  orderId,
  fc.nat({ max: 7 })
).map(([members, key, order, whole]) => {
  const all = [
    ...whole & 1 ? [["idempotent_key", key] as const] : [],
    ...whole & 2 ? [["order_id", order] as const] : [],
    ...whole & 4 ? [["status", `"COMPLETED"`] as const] : [],
    ...members
  ]
  return `{${all.map(([name, value]) => `"${name}":${value}`).join(",")}}`
})

/** A whole event with some bytes changed. */
const broken = fc.tuple(nearly, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 3 })).map(
  ([text, changes]) => {
    const value = Buffer.from(text)
    for (const [at, byte] of changes) value[at % value.length] = byte
    return value
  }
)

const cut = fc.tuple(nearly, fc.nat()).map(([text, at]) => Buffer.from(text).subarray(0, at % text.length))
const deep = fc.tuple(fc.integer({ min: 1, max: 400 }), fc.constantFrom("[]", "{}", "[", "{\"a\":")).map(
  ([depth, kind]) =>
    kind === "[]"
      ? "[".repeat(depth) + "]".repeat(depth)
      : kind === "{}"
      ? "{\"a\":".repeat(depth) + "1" + "}".repeat(depth)
      : kind.repeat(depth)
)
const noise = fc.constantFrom(Buffer.of(0xff), Buffer.of(0xc3, 0x28), Buffer.from("\ufeff"), Buffer.of(0))

const value: fc.Arbitrary<Buffer | null> = fc.oneof(
  fc.constant(null),
  bytes,
  json.map((_) => Buffer.from(_)),
  { weight: 4, arbitrary: nearly.map((_) => Buffer.from(_)) },
  { weight: 3, arbitrary: broken },
  cut,
  deep.map((_) => Buffer.from(_)),
  fc.tuple(noise, nearly).map(([noise, text]) => Buffer.concat([noise, Buffer.from(text)])),
  fc.tuple(nearly, noise).map(([text, noise]) => Buffer.concat([Buffer.from(text), noise]))
)

const headerName = fc.oneof(
  fc.constantFrom("traceparent", "constructor", "__proto__", "toString", "", "dlq", "length", "0", "ключ", secret),
  fc.string({ unit: "binary", maxLength: 8 })
)
const headerValue = fc.oneof(bytes, fc.constant(nullHeader), fc.constant(Buffer.from(secret.repeat(20))))
const headers = fc.array(
  fc.tuple(headerName, fc.oneof(headerValue, fc.array(headerValue, { minLength: 1, maxLength: 3 }))),
  { maxLength: 4 }
).map((entries) => Object.fromEntries(entries) as Stranger["headers"])

/** What anybody may write to the topic. */
export const stranger: fc.Arbitrary<Stranger> = fc.record({
  key: fc.oneof(fc.constant(null), bytes),
  value,
  headers
})

const event = (more: string) =>
  Buffer.from(`{"idempotent_key":"${randomUUID()}","order_id":9007199254740993,"status":7${more}}`)

/** Each of them once stopped a consumer, this one or another. */
export const named: Readonly<Record<string, Stranger>> = {
  "a header that every JavaScript object knows": {
    key: null,
    value: event(""),
    headers: Object.fromEntries(
      ["constructor", "__proto__", "toString", "hasOwnProperty"].map((name) => [name, Buffer.from("1")])
    )
  },
  "such a header without a value": { key: null, value: event(""), headers: { valueOf: nullHeader } },
  "an array in arrays, so deep that recursion ends": {
    key: Buffer.alloc(0),
    value: Buffer.from("[".repeat(200_000) + "]".repeat(200_000)),
    headers: {}
  },
  "nearly as large as a broker takes": {
    key: null,
    value: event(`,"note":"${"x".repeat(1_040_000)}"`),
    headers: {}
  },
  "a value of no bytes": { key: Buffer.alloc(0), value: Buffer.alloc(0), headers: { "": Buffer.alloc(0) } }
}
