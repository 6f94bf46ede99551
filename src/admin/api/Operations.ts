import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Admin } from "./Access.js"
import * as Fields from "./Fields.js"
import { Unavailable } from "./Refusals.js"

export const Operations = Schema.Struct({
  /** Newest first. */
  operations: Schema.Array(Schema.Struct({
    id: Schema.String,
    run: Schema.String,
    at: Schema.Date,
    operator: Schema.String,
    role: Schema.String,
    action: Schema.String,
    reason: Schema.String,
    order_id: Schema.NullOr(Schema.String),
    event_id: Schema.NullOr(Schema.String),
    place: Schema.NullOr(Schema.String),
    before: Schema.Unknown,
    after: Schema.Unknown
  })),
  next: Schema.NullOr(Schema.String).annotations({ description: "Give it as `after` to go on; null at the end" })
}).annotations({ identifier: "Operations" })

export const group = HttpApiGroup.make("operations").add(
  HttpApiEndpoint.get("last", "/api/operations").setUrlParams(
    Schema.Struct({
      order_id: Schema.optional(Fields.digits),
      after: Schema.optional(Fields.digits),
      limit: Fields.limit
    })
  ).addSuccess(Operations).addError(Unavailable).annotate(OpenApi.Summary, "What operators changed, newest first")
).middleware(Admin)
