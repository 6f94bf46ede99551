import { HttpApiError, HttpServerRequest } from "@effect/platform"
import { Effect, Layer, Redacted } from "effect"
import { createHash, timingSafeEqual } from "node:crypto"
import type { Caller } from "../infra/auth/Caller.js"
import type { Secret } from "../infra/runtime/Secret.js"
import { Admin, Settles, Writes } from "./api/Access.js"
import { MissingScope } from "./api/Refusals.js"

/** The tokens of the operations API. */
export interface AdminTokens {
  /** A token without a name, which may do everything. */
  readonly unnamed: Secret | undefined
  /** Finds the owner of a named token. */
  readonly named: ((token: string) => Caller | undefined) | undefined
}

const digest = (token: Redacted.Redacted) => createHash("sha256").update(Redacted.value(token)).digest()

/** The scope of a request: GET looks, everything else changes. */
const scopeOf = (method: string) => method === "GET" || method === "HEAD" ? "operations:read" : "operations:change"

/** The name of the owner, if the scopes of the token are enough. */
const permitted = ({ name, scopes }: Caller) =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method }) => {
    const scope = scopeOf(method)
    return scopes.has(scope)
      ? Effect.succeedSome(name)
      : new MissingScope({ message: `the token of ${name} lacks the scope ${scope}` })
  })

/**
 * Refuses requests without one of these tokens. The comparison takes the same time for every token of the caller. A token file
 * that cannot be read now refuses the unnamed token: the log says so.
 */
export const layer = ({ named, unnamed }: AdminTokens) =>
  Layer.mergeAll(...[Admin, Settles, Writes].map((tag) => Layer.succeed(tag as typeof Admin, {
    session: () => new HttpApiError.Unauthorized(),
    token: (given) =>
      Effect.gen(function*() {
        const owner = named?.(Redacted.value(given))
        if (owner !== undefined) return yield* permitted(owner)
        if (unnamed === undefined) return yield* new HttpApiError.Unauthorized()
        return yield* Effect.matchEffect(unnamed.get, {
          onFailure: (error) =>
            Effect.zipRight(
              Effect.logError("operations API: no token to compare with", error),
              new HttpApiError.Unauthorized()
            ),
          onSuccess: (token) =>
            timingSafeEqual(digest(given), digest(token)) ? Effect.succeedNone : new HttpApiError.Unauthorized()
        })
      })
  })) as never) as Layer.Layer<Admin | Settles | Writes>
