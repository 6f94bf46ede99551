import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Admin } from "./Access.js"
import * as Fields from "./Fields.js"
import { BadRequest, NotFound, Unavailable } from "./Refusals.js"

export const LetterReplay = Schema.Struct({
  ...Fields.change,
  places: Schema.optionalWith(Schema.Array(Schema.String.pipe(Schema.pattern(/^\d{1,6}@\d{1,18}$/))), Fields.none),
  error: Schema.optional(Schema.NonEmptyString).annotations({ description: "Text that the reason contains" }),
  all: Fields.off,
  value: Schema.optional(Schema.String).annotations({ description: "A corrected value, for one letter" }),
  again: Fields.off,
  anyway: Fields.off
}).annotations({ identifier: "LetterReplay" })

export const group = HttpApiGroup.make("dead-letters")
  .add(
    HttpApiEndpoint.get("list", "/api/dead-letters").setUrlParams(Schema.Struct({
      error: Schema.optional(Schema.NonEmptyString),
      open: Fields.flag,
      limit: Fields.limit
    })).addSuccess(Fields.document).addError(Unavailable).annotate(
      OpenApi.Summary,
      "The newest dead letters, without their values; a filter looks at the newest 5,000 of each partition"
    )
  )
  .add(
    HttpApiEndpoint.get("show", "/api/dead-letters/:partition/:offset").setPath(Schema.Struct({
      partition: Fields.partition,
      offset: Fields.offset
    })).addSuccess(Fields.document).addError(NotFound).addError(Unavailable)
      .annotate(OpenApi.Summary, "A dead letter, with headers, key and value (text, and hex)")
  )
  .add(
    HttpApiEndpoint.post("replayLetters", "/api/dead-letters/replay").setPayload(LetterReplay)
      .addSuccess(Fields.Changed).addError(BadRequest).addError(NotFound).addError(Unavailable)
      .annotate(OpenApi.Summary, "Write dead letters to the inventory topic again")
  )
  .middleware(Admin)
