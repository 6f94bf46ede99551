import { Either, Schema } from "effect"
import { OrderId } from "./Payment.js"

/** What topic `inventory` says of an order. */
export interface InventoryEvent {
  /** A uuid in lower case; a repeat carries the same one. */
  readonly idempotentKey: string
  readonly orderId: OrderId
  readonly status: string
}

/** The record is no inventory event. The reason names the fault and quotes nothing of the payload. */
export class MalformedRecord extends Schema.TaggedError<MalformedRecord>()("MalformedRecord", {
  reason: Schema.String
}) {}

const utf8 = new TextDecoder("utf-8", { fatal: true })
const isUuid = Schema.is(Schema.UUID)
const isOrderId = Schema.is(OrderId)
const malformed = (reason: string) => Either.left(new MalformedRecord({ reason }))

const parse = (value: Uint8Array) =>
  Either.try({
    try: () => {
      const text = utf8.decode(value)
      return { text, json: JSON.parse(text) as unknown }
    },
    catch: () => new MalformedRecord({ reason: "value is not JSON" })
  })

const isObject = (json: unknown): json is Record<string, unknown> =>
  typeof json === "object" && json !== null && !Array.isArray(json)

/** JSON.parse rounds an int64: read the (valid) text again with every number as the text it is. */
const numberAsWritten = (text: string, field: string): string =>
  JSON.parse(
    text.replace(/"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g, (token) => token.startsWith("\"") ? token : `"${token}"`)
  )[field]

/** Reads the value of a record of topic `inventory`. Unknown fields are ignored. */
export const decode = (value: Uint8Array | null): Either.Either<InventoryEvent, MalformedRecord> => {
  if (value === null) return malformed("record has no value")
  const parsed = parse(value)
  if (Either.isLeft(parsed)) return Either.left(parsed.left)
  const { json, text } = parsed.right
  if (!isObject(json)) return malformed("value is not a JSON object")
  if (!isUuid(json["idempotent_key"])) return malformed("idempotent_key is not a uuid")
  if (typeof json["order_id"] !== "number") return malformed("order_id is not a number")
  if (typeof json["status"] !== "string") return malformed("status is not text")
  const orderId = numberAsWritten(text, "order_id")
  if (!/^-?\d+$/.test(orderId)) return malformed("order_id is not a whole number")
  const id = BigInt(orderId)
  if (!isOrderId(id)) return malformed("order_id is out of range")
  return Either.right({ idempotentKey: json["idempotent_key"].toLowerCase(), orderId: id, status: json["status"] })
}

/** The value of a record of topic `inventory`. */
export const encode = ({ idempotentKey, orderId, status }: InventoryEvent): string =>
  `{"idempotent_key":"${idempotentKey}","order_id":${orderId},"status":${JSON.stringify(status)}}`
