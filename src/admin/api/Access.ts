import { HttpApiError, HttpApiMiddleware, HttpApiSecurity } from "@effect/platform"
import type { Option } from "effect"
import { Context, Schema } from "effect"
import { ForeignRequest, MissingScope, TooMany } from "./Refusals.js"

/** The name of the caller of a request; none for a token without a name. */
export class Owner extends Context.Tag("payments/Owner")<Owner, Option.Option<string>>() {}

/** Header that a request with a session must send to change something: a form of another site cannot send it. */
export const changeHeader = "x-payments-console"

/** Name of the session cookie without TLS; with TLS it begins with `__Host-`. */
export const cookieName = "payments-console"

const options = {
  failure: Schema.Union(HttpApiError.Unauthorized, MissingScope, ForeignRequest, TooMany),
  provides: Owner,
  security: { token: HttpApiSecurity.bearer, session: HttpApiSecurity.apiKey({ in: "cookie", key: cookieName }) }
} as const

/** Lets requests pass that may look (`operations:read`), or change (`operations:change`) with any method but GET. */
export class Admin extends HttpApiMiddleware.Tag<Admin>()("payments/Admin", options) {}

/** Lets requests pass that may settle payments: scope `payments:settle`. */
export class Settles extends HttpApiMiddleware.Tag<Settles>()("payments/Settles", options) {}

/** Lets requests pass that may write inventory records: scope `inventory:write`. */
export class Writes extends HttpApiMiddleware.Tag<Writes>()("payments/Writes", options) {}
