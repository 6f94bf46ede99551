import { Schema } from "effect"
import { PaymentStatus } from "./Payment.js"

/**
 * The JSON of both topics, for documents: `scripts/contracts.mjs` makes docs/schemas and docs/asyncapi.yaml of it. The service
 * itself reads and writes the bytes (`InventoryEvent.decode`, `PaymentEvent.encode`), and tests compare both.
 */

/** 1 to 2^63 - 1. The maximum is a bigint: a number of JavaScript would round it. */
const orderId = (description: string) =>
  Schema.Number.annotations({
    jsonSchema: { type: "integer", format: "int64", minimum: 1, maximum: 9223372036854775807n, description }
  })

const uuid = (digits: string, description: string) =>
  Schema.String.annotations({
    jsonSchema: {
      type: "string",
      format: "uuid",
      pattern: `^${digits}{8}(-${digits}{4}){3}-${digits}{12}$`,
      description
    }
  })

/** The value of a record of topic `inventory`, as the service reads it. It ignores unknown fields. */
export const InventoryValue = Schema.Struct({
  idempotent_key: uuid("[0-9a-fA-F]", "UUID in lower or upper case. A record that is sent again carries the same one."),
  order_id: orderId(
    "A JSON number, written with digits alone: 1.0 and 1e3 are refused, and so is a number in quotes. Parsers that turn " +
      "numbers into floating point round it above 2^53: read it as a 64-bit integer."
  ),
  status: Schema.String.annotations({
    jsonSchema: {
      type: "string",
      examples: ["COMPLETED", "CREATED", "FAILED"],
      description:
        "Any text. A status on the list in INVENTORY_ACCEPT_STATUSES (default: COMPLETED; the match is exact) " +
        "creates a payment. The service passes over records with another status."
    }
  })
}).annotations({
  title: "InventoryEvent",
  description:
    "The stock of an order was reserved, or was not. UTF-8, at most 1 MiB. Unknown fields are ignored; of a " +
    "field that is there twice, the last counts. A record that breaks this schema goes to the dead-letter topic."
})

/** The value of a record of topic `payment`, as the service writes it. */
export const PaymentValue = Schema.Struct({
  idempotent_key: uuid("[0-9a-f]", "Made once for each event. A record that is sent again carries the same one."),
  order_id: orderId("Parsers that turn numbers into floating point round it above 2^53: read it as a 64-bit integer."),
  status: PaymentStatus.annotations({
    description: "CREATED comes first. COMPLETED (paid) or FAILED (refused, or expired) comes last, and never changes."
  })
}).annotations({
  title: "PaymentEvent",
  description:
    "The payment of an order reached a status. Exactly these three fields in this order, without white space."
})

/** The schemas by topic. `open`: unknown fields are allowed. */
export const values = {
  inventory: { schema: InventoryValue, open: true },
  payment: { schema: PaymentValue, open: false }
} as const satisfies Record<string, { readonly schema: Schema.Schema.AnyNoContext; readonly open: boolean }>
