import { HttpApiBuilder, HttpApiSecurity, HttpServerRequest } from "@effect/platform"
import { Duration, Effect, Option } from "effect"
import type { Scope } from "../domain/Scope.js"
import { scopes } from "../domain/Scope.js"
import type { Access, Who } from "./Access.js"
import { Api } from "./Api.js"
import { BadRequest } from "./api/Refusals.js"
import type { Session } from "./api/Session.js"
import * as Sessions from "./Sessions.js"

/** What the page shows of this deployment. */
export interface Deployment {
  readonly version: string
  readonly inventoryTopic: string
  readonly paymentTopic: string
  readonly dlqTopic: string
  readonly acceptStatuses: ReadonlyArray<string>
}

/** Answers `/api/session`. */
export const layer = (deployment: Deployment, access: Access) =>
  HttpApiBuilder.group(Api, "session", (handlers) => {
    const shown = (who: Who | undefined): typeof Session.Type => ({
      signed_in: who !== undefined,
      name: who === undefined ? null : Option.getOrNull(who.name),
      scopes: scopes.filter((scope: Scope) => who?.scopes.has(scope) === true),
      local: access.isLocal,
      idle_minutes: Duration.toMinutes(Sessions.limits.idle),
      ends_at: who?.endsAt ?? null,
      version: deployment.version,
      topics: {
        inventory: deployment.inventoryTopic,
        payment: deployment.paymentTopic,
        dead_letters: deployment.dlqTopic
      },
      accepted_statuses: deployment.acceptStatuses
    })
    /** Sets the cookie of the answer. */
    const setCookie = (value: string, maxAge: Duration.Duration) =>
      HttpApiBuilder.securitySetCookie(HttpApiSecurity.apiKey({ in: "cookie", key: access.cookie }), value, {
        path: "/",
        sameSite: "strict",
        secure: access.tls,
        maxAge
      })

    return handlers
      .handle("session", () =>
        Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          access.identify(request).pipe(
            Effect.map(shown),
            Effect.catchIf(
              (error) => error._tag !== "TooMany",
              () => Effect.succeed(shown(undefined))
            )
          )))
      .handle("signIn", ({ payload: { name, token } }) =>
        Effect.gen(function*() {
          const session = yield* access.signIn(yield* HttpServerRequest.HttpServerRequest, token, name)
          if (session === undefined) {
            return yield* new BadRequest({ message: "give name: the token has none, and each change stores its author" })
          }
          yield* setCookie(session.id, Sessions.limits.whole)
          return shown(session.who)
        }))
      .handle("signOut", () =>
        Effect.gen(function*() {
          yield* access.signOut(yield* HttpServerRequest.HttpServerRequest)
          yield* setCookie("", Duration.zero)
          return shown(undefined)
        }))
  })
