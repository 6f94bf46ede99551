import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Admin } from "./Access.js"

export const Findings = Schema.Struct({
  at: Schema.Date,
  clean: Schema.Boolean,
  findings: Schema.Int,
  not_checked: Schema.Int,
  ok: Schema.Int,
  results: Schema.Array(Schema.Struct({
    place: Schema.Literal("settings", "certificates", "postgresql", "kafka", "redis", "clocks"),
    check: Schema.String,
    state: Schema.Literal("ok", "finding", "not_checked"),
    found: Schema.String,
    consequence: Schema.NullOr(Schema.String),
    remedy: Schema.NullOr(Schema.String)
  }))
}).annotations({ identifier: "Findings" })

export const group = HttpApiGroup.make("doctor").add(
  HttpApiEndpoint.get("findings", "/api/doctor").addSuccess(Findings).annotate(
    OpenApi.Summary,
    "Checks servers and settings against each other, at most once in 10 seconds"
  )
).middleware(Admin)
