import { HttpApiSchema } from "@effect/platform"
import { Schema } from "effect"

/** An order id or event id as text, because JSON numbers lose digits. */
export const digits = Schema.String.pipe(Schema.pattern(/^[1-9]\d{0,18}$/))

/** An offset as text. */
export const offset = Schema.String.pipe(Schema.pattern(/^\d{1,18}$/))

/** The number of a partition. */
export const partition = Schema.NumberFromString.pipe(Schema.int(), Schema.between(0, 999_999))

export const moment = Schema.Date.annotations({ description: "ISO time" })

/** The most items of an answer. */
export const limit = Schema.optionalWith(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 10_000)), {
  default: () => 100
})

/** The most items of an answer whose items are large. */
export const smallLimit = Schema.optionalWith(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 500)), {
  default: () => 50
})

export const off = Schema.optionalWith(Schema.Boolean, { default: () => false })
export const flag = Schema.optionalWith(Schema.BooleanFromString, { default: () => false })
export const none = { default: () => [] } as const
export const document = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** Text to search for. */
export const search = Schema.NonEmptyString.pipe(Schema.maxLength(200))

/** Server-sent events. */
export const events = HttpApiSchema.Text({ contentType: "text/event-stream" })

/** Why, and who: kept in table `operation`. */
export const author = {
  reason: Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(2_000)).annotations({
    description: "Why; kept in table operation"
  }),
  operator: Schema.optional(Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(200))).annotations({
    description: "Who; kept in table operation. With a named token its name, which may be left out here"
  })
} as const

/** The fields of every change. */
export const change = {
  ...author,
  dry_run: off.annotations({ description: "Change nothing, and answer what would change" }),
  rate: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 100_000)), { default: () => 500 }).annotations({
    description: "Most changes a second"
  })
} as const

/** The result of a change, or of its preview. */
export const Changed = Schema.Struct({
  planned: Schema.Int,
  left_out: Schema.Array(
    Schema.Struct({ reason: Schema.String, count: Schema.Int, examples: Schema.Array(Schema.String) })
  ),
  dry_run: Schema.Boolean,
  changed: Schema.Int,
  unchanged: Schema.Int.annotations({ description: "Changed by others between preview and change, and left alone" }),
  more: Schema.Boolean.annotations({ description: "There are more: repeat the request" }),
  run: Schema.UUID.annotations({ description: "The rows of this change in table operation" })
}).annotations({ identifier: "Changed" })

/** Bytes of a record: as text where they are printable UTF-8, and in hexadecimal digits. Both may be cut. */
export const Bytes = Schema.Struct({
  bytes: Schema.Int.annotations({ description: "The whole size" }),
  text: Schema.NullOr(Schema.String),
  hex: Schema.String,
  cut: Schema.Boolean.annotations({ description: "Only the beginning is here" })
}).annotations({ identifier: "Bytes" })

/** A record of a topic. */
export const Record = Schema.Struct({
  topic: Schema.String,
  partition: Schema.Int,
  offset: Schema.String,
  at: Schema.NullOr(Schema.Date),
  key: Schema.NullOr(Bytes),
  value: Schema.NullOr(Bytes),
  headers: Schema.Array(Schema.Struct({ name: Schema.String, value: Bytes })),
  unread: Schema.NullOr(Schema.String).annotations({
    description: "Why the reader left out a part: too large, or not decodable"
  })
}).annotations({ identifier: "Record" })
export type Record = typeof Record.Type
