import {
  HttpApi,
  HttpApiEndpoint,
  HttpApiError,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpApiSchema,
  HttpApiSecurity,
  OpenApi
} from "@effect/platform"
import type { Option } from "effect"
import { Context, Schema } from "effect"
import { states } from "../repair/OutboxEvents.js"

/** A request that cannot be answered as it is; the message says what to change. */
export class BadRequest extends Schema.TaggedError<BadRequest>()(
  "BadRequest",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 400 })
) {}

/** The change has a consequence that the request must accept apart. */
export class NeedsConsent extends Schema.TaggedError<NeedsConsent>()(
  "NeedsConsent",
  { message: Schema.String, field: Schema.String },
  HttpApiSchema.annotations({ status: 409 })
) {}

/** There is no such order or letter. */
export class NotFound extends Schema.TaggedError<NotFound>()(
  "NotFound",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 404 })
) {}

/** A server does not answer, or refuses. What was done so far stays done; a later request goes on with the rest. */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 503 })
) {}

/** The token of the request may not do this. */
export class MissingScope extends Schema.TaggedError<MissingScope>()(
  "MissingScope",
  { message: Schema.String },
  HttpApiSchema.annotations({ status: 403 })
) {}

/** The owner of the token of a request; none for the token without a name. */
export class Owner extends Context.Tag("payments/Owner")<Owner, Option.Option<string>>() {}

/** Lets requests pass that have a token of the operations API. */
export class Admin extends HttpApiMiddleware.Tag<Admin>()("payments/Admin", {
  failure: Schema.Union(HttpApiError.Unauthorized, MissingScope),
  provides: Owner,
  security: { token: HttpApiSecurity.bearer }
}) {}

const digits = Schema.String.pipe(Schema.pattern(/^[1-9]\d{0,18}$/))
const moment = Schema.Date.annotations({ description: "ISO time" })
const limit = Schema.optionalWith(Schema.NumberFromString.pipe(Schema.int(), Schema.between(1, 10_000)), {
  default: () => 100
})
const off = Schema.optionalWith(Schema.Boolean, { default: () => false })
const none = { default: () => [] } as const
const document = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** The fields of every change. */
const change = {
  reason: Schema.NonEmptyTrimmedString.annotations({ description: "Why; kept in table operation" }),
  operator: Schema.optional(Schema.NonEmptyTrimmedString).annotations({
    description: "Who; kept in table operation. With a named token its name, which may be left out here"
  }),
  dry_run: off.annotations({ description: "Change nothing, and answer what would change" }),
  rate: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 100_000)), { default: () => 500 }).annotations({
    description: "Most changes a second"
  })
} as const

const selection = {
  event_ids: Schema.optionalWith(Schema.Array(digits), none),
  order_ids: Schema.optionalWith(Schema.Array(digits), none),
  error: Schema.optional(Schema.NonEmptyString).annotations({ description: "Text that the last error contains" }),
  all: off
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

export const Repair = Schema.Struct({ ...change, ...selection }).annotations({ identifier: "Repair" })

export const Replay = Schema.Struct({
  ...change,
  event_ids: selection.event_ids,
  order_ids: selection.order_ids,
  since: Schema.optional(moment),
  until: Schema.optional(moment),
  missing: off.annotations({
    description: "Events that the audit does not find on the topic; reads both topics and the tables"
  }),
  beyond_window: off.annotations({ description: "Also events that Orders does not recognise as repeats any more" })
}).annotations({ identifier: "Replay" })

export const LetterReplay = Schema.Struct({
  ...change,
  places: Schema.optionalWith(Schema.Array(Schema.String.pipe(Schema.pattern(/^\d{1,6}@\d{1,18}$/))), none),
  error: selection.error,
  all: off,
  value: Schema.optional(Schema.String).annotations({ description: "A corrected value, for one letter" }),
  again: off,
  anyway: off
}).annotations({ identifier: "LetterReplay" })

const orders = HttpApiGroup.make("orders").add(
  HttpApiEndpoint.get("story", "/api/orders/:order_id").setPath(Schema.Struct({ order_id: digits }))
    .setUrlParams(Schema.Struct({ since: Schema.optional(moment) })).addSuccess(document).addError(NotFound).addError(
      Unavailable
    )
    .annotate(OpenApi.Summary, "One order: its records, payment, events and letters, what it waits for and what to do")
).middleware(Admin)

const outbox = HttpApiGroup.make("outbox")
  .add(
    HttpApiEndpoint.get("events", "/api/outbox/events").setUrlParams(Schema.Struct({
      order_id: Schema.optional(digits),
      error: Schema.optional(Schema.NonEmptyString),
      state: Schema.optional(Schema.Literal(...states)),
      limit
    })).addSuccess(document).addError(Unavailable).annotate(
      OpenApi.Summary,
      "Events that are not published, oldest first"
    )
  )
  .add(
    HttpApiEndpoint.get("blocked", "/api/outbox/blocked").setUrlParams(Schema.Struct({ limit })).addSuccess(document)
      .addError(Unavailable).annotate(OpenApi.Summary, "Dead events, and how many events wait behind each")
  )
  .add(
    HttpApiEndpoint.post("retry", "/api/outbox/retry").setPayload(Repair).addSuccess(Changed).addError(BadRequest)
      .addError(Unavailable).annotate(OpenApi.Summary, "Send dead events again, and refused ones without their pause")
  )
  .add(
    HttpApiEndpoint.post("skip", "/api/outbox/skip").setPayload(Repair).addSuccess(Changed).addError(BadRequest)
      .addError(Unavailable).annotate(OpenApi.Summary, "Give dead events up")
  )
  .add(
    HttpApiEndpoint.post("replay", "/api/outbox/replay").setPayload(Replay).addSuccess(Changed).addError(BadRequest)
      .addError(NeedsConsent).addError(Unavailable).annotate(OpenApi.Summary, "Announce DONE events again")
  )
  .middleware(Admin)

const deadLetters = HttpApiGroup.make("dead-letters")
  .add(
    HttpApiEndpoint.get("list", "/api/dead-letters").setUrlParams(Schema.Struct({
      error: Schema.optional(Schema.NonEmptyString),
      open: Schema.optionalWith(Schema.BooleanFromString, { default: () => false }),
      limit
    })).addSuccess(document).addError(Unavailable).annotate(OpenApi.Summary, "Dead letters, without their values")
  )
  .add(
    HttpApiEndpoint.get("show", "/api/dead-letters/:partition/:offset").setPath(Schema.Struct({
      partition: Schema.NumberFromString.pipe(Schema.int(), Schema.nonNegative()),
      offset: Schema.String.pipe(Schema.pattern(/^\d{1,18}$/))
    })).addSuccess(document).addError(NotFound).addError(Unavailable)
      .annotate(OpenApi.Summary, "A dead letter, with headers, key and value (text, or hex)")
  )
  .add(
    HttpApiEndpoint.post("replayLetters", "/api/dead-letters/replay").setPayload(LetterReplay).addSuccess(Changed)
      .addError(BadRequest).addError(NotFound).addError(Unavailable)
      .annotate(OpenApi.Summary, "Write dead letters to the inventory topic again")
  )
  .middleware(Admin)

const operations = HttpApiGroup.make("operations").add(
  HttpApiEndpoint.get("last", "/api/operations").setUrlParams(
    Schema.Struct({ order_id: Schema.optional(digits), limit })
  )
    .addSuccess(document).addError(Unavailable).annotate(OpenApi.Summary, "What operators changed, newest first")
).middleware(Admin)

/** The operations API: looks and repairs, as the command line. Ids are text, because JSON numbers lose digits. */
export class Api extends HttpApi.make("payments-operations").add(orders).add(outbox).add(deadLetters).add(operations)
  .annotate(OpenApi.Title, "Payments operations")
{}
