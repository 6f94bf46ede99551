import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { states } from "../../domain/EventState.js"
import { Admin } from "./Access.js"
import * as Fields from "./Fields.js"
import { BadRequest, NeedsConsent, Unavailable } from "./Refusals.js"

const selection = {
  event_ids: Schema.optionalWith(Schema.Array(Fields.digits), Fields.none),
  order_ids: Schema.optionalWith(Schema.Array(Fields.digits), Fields.none),
  error: Schema.optional(Schema.NonEmptyString).annotations({ description: "Text that the last error contains" }),
  all: Fields.off
} as const

export const Repair = Schema.Struct({ ...Fields.change, ...selection }).annotations({ identifier: "Repair" })

export const Replay = Schema.Struct({
  ...Fields.change,
  event_ids: selection.event_ids,
  order_ids: selection.order_ids,
  since: Schema.optional(Fields.moment),
  until: Schema.optional(Fields.moment),
  missing: Fields.off.annotations({
    description: "Events that the audit does not find on the topic; reads both topics and the tables"
  }),
  beyond_window: Fields.off.annotations({
    description: "Also events that Orders does not recognise as repeats any more"
  })
}).annotations({ identifier: "Replay" })

/** An event that is not published. */
export const Event = Schema.Struct({
  id: Schema.String,
  order_id: Schema.NullOr(Schema.String),
  says: Schema.NullOr(Schema.String),
  status: Schema.Literal("WAIT", "DEAD"),
  state: Schema.Literal(...states),
  attempts: Schema.Int,
  last_error: Schema.NullOr(Schema.String),
  created_at: Schema.Date,
  reserved_to: Schema.NullOr(Schema.Date).annotations({ description: "End of the lease or of the back-off" }),
  lease_token: Schema.NullOr(Schema.String).annotations({ description: "The claim that leases it" }),
  batch: Schema.NullOr(Schema.String).annotations({ description: "Delivery exactly-once: the batch of its shard" }),
  shard: Schema.NullOr(Schema.Int),
  owner: Schema.NullOr(Schema.String).annotations({ description: "The relay that owns the shard" })
}).annotations({ identifier: "Event" })

export const Events = Schema.Struct({
  /** Counts by state and error; null after the first page. */
  groups: Schema.NullOr(Schema.Array(Schema.Struct({
    state: Schema.Literal(...states),
    last_error: Schema.NullOr(Schema.String),
    count: Schema.Int,
    oldest: Schema.Date,
    examples: Schema.Array(Schema.String)
  }))),
  /** Oldest first. */
  events: Schema.Array(Event),
  next: Schema.NullOr(Schema.String).annotations({ description: "Give it as `after` to go on; null at the end" })
}).annotations({ identifier: "Events" })

export const group = HttpApiGroup.make("outbox")
  .add(
    HttpApiEndpoint.get("events", "/api/outbox/events").setUrlParams(Schema.Struct({
      order_id: Schema.optional(Fields.digits),
      error: Schema.optional(Schema.NonEmptyString),
      state: Schema.optional(Schema.Literal(...states)),
      after: Schema.optional(Schema.String.pipe(Schema.pattern(/^\d{1,20}_\d{1,19}$/))),
      limit: Fields.limit
    })).addSuccess(Events).addError(Unavailable).annotate(
      OpenApi.Summary,
      "Events that are not published, oldest first"
    )
  )
  .add(
    HttpApiEndpoint.get("blocked", "/api/outbox/blocked").setUrlParams(Schema.Struct({ limit: Fields.limit }))
      .addSuccess(Fields.document).addError(Unavailable).annotate(
        OpenApi.Summary,
        "Dead events, and how many events wait behind each"
      )
  )
  .add(
    HttpApiEndpoint.post("retry", "/api/outbox/retry").setPayload(Repair).addSuccess(Fields.Changed)
      .addError(BadRequest).addError(Unavailable)
      .annotate(OpenApi.Summary, "Send dead events again, and refused ones without their pause")
  )
  .add(
    HttpApiEndpoint.post("skip", "/api/outbox/skip").setPayload(Repair).addSuccess(Fields.Changed).addError(BadRequest)
      .addError(Unavailable).annotate(OpenApi.Summary, "Give dead events up")
  )
  .add(
    HttpApiEndpoint.post("replay", "/api/outbox/replay").setPayload(Replay).addSuccess(Fields.Changed)
      .addError(BadRequest).addError(NeedsConsent).addError(Unavailable)
      .annotate(OpenApi.Summary, "Announce DONE events again")
  )
  .middleware(Admin)
