import { HttpApiError } from "@effect/platform"
import { Effect, Layer, Redacted } from "effect"
import { createHash, timingSafeEqual } from "node:crypto"
import { Admin } from "./Api.js"

const digest = (token: Redacted.Redacted) => createHash("sha256").update(Redacted.value(token)).digest()

/** Refuses requests without this token. The comparison takes the same time for every token of the caller. */
export const layer = (token: Redacted.Redacted) => {
  const expected = digest(token)
  return Layer.succeed(Admin, {
    token: (given) =>
      timingSafeEqual(digest(given), expected) ? Effect.void : Effect.fail(new HttpApiError.Unauthorized())
  })
}
