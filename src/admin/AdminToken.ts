import { HttpApiError } from "@effect/platform"
import { Effect, Layer, Redacted } from "effect"
import { createHash, timingSafeEqual } from "node:crypto"
import type { Secret } from "../infra/runtime/Secret.js"
import { Admin } from "./Api.js"

const digest = (token: Redacted.Redacted) => createHash("sha256").update(Redacted.value(token)).digest()

/**
 * Refuses requests without this token. The comparison takes the same time for every token of the caller. A token file that
 * cannot be read now refuses every request: the log says so.
 */
export const layer = (expected: Secret) =>
  Layer.succeed(Admin, {
    token: (given) =>
      Effect.matchEffect(expected.get, {
        onFailure: (error) =>
          Effect.zipRight(
            Effect.logError("operations API: no token to compare with", error),
            new HttpApiError.Unauthorized()
          ),
        onSuccess: (token) =>
          timingSafeEqual(digest(given), digest(token)) ? Effect.void : new HttpApiError.Unauthorized()
      })
  })
