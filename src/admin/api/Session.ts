import { HttpApiEndpoint, HttpApiError, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { scopes } from "../../domain/Scope.js"
import { BadRequest, ForeignRequest, TooMany } from "./Refusals.js"

/** What the page may do. */
export const Session = Schema.Struct({
  signed_in: Schema.Boolean,
  /** The name that is stored with each change; null while signed out. */
  name: Schema.NullOr(Schema.String),
  scopes: Schema.Array(Schema.Literal(...scopes)),
  /** True on a local stack: signed in without a token, and inventory records may be written. */
  local: Schema.Boolean,
  idle_minutes: Schema.Int.annotations({ description: "The session ends after this time without a request" }),
  ends_at: Schema.NullOr(Schema.Date).annotations({ description: "The session ends at this time; null without one" }),
  version: Schema.String,
  /** Names of the topics. */
  topics: Schema.Struct({ inventory: Schema.String, payment: Schema.String, dead_letters: Schema.String }),
  accepted_statuses: Schema.Array(Schema.String).annotations({
    description: "Inventory statuses that create a payment"
  })
}).annotations({ identifier: "Session" })

export const SignIn = Schema.Struct({
  token: Schema.NonEmptyString.pipe(Schema.maxLength(4_096)),
  name: Schema.optional(Schema.NonEmptyTrimmedString.pipe(Schema.maxLength(200))).annotations({
    description: "Needed for a token without a name: who you are, for table operation"
  })
}).annotations({ identifier: "SignIn" })

export const group = HttpApiGroup.make("session")
  .add(
    HttpApiEndpoint.get("session", "/api/session").addSuccess(Session).addError(TooMany).annotate(
      OpenApi.Summary,
      "What the caller may do; needs no token"
    )
  )
  .add(
    HttpApiEndpoint.post("signIn", "/api/session").setPayload(SignIn).addSuccess(Session).addError(BadRequest)
      .addError(HttpApiError.Unauthorized).addError(ForeignRequest).addError(TooMany)
      .annotate(OpenApi.Summary, "Sign in with a token: the answer sets the session cookie")
  )
  .add(
    HttpApiEndpoint.del("signOut", "/api/session").addSuccess(Session).addError(ForeignRequest).annotate(
      OpenApi.Summary,
      "End the session"
    )
  )
