import { Clock, Data, Effect } from "effect"
import type { JWTPayload } from "jose"
import type { Caller } from "../../auth/Caller.js"
import { isName } from "../../auth/Caller.js"
import { badCredential, Refused } from "./Authenticator.js"
import * as Bearer from "./Bearer.js"
import type { KeySetOptions } from "./KeySet.js"
import * as KeySet from "./KeySet.js"

/** The error of `jose` about a token, or about the keys. */
class NotVerified extends Data.TaggedError("NotVerified")<{
  readonly cause: Error & { readonly code?: string; readonly claim?: string }
}> {}

export interface JwtOptions extends KeySetOptions {
  readonly issuer: string
  readonly audience: string
}

/** Signatures with a public key. With a shared secret (HS256), each server that checks tokens could also make them. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]

/** Longest time in milliseconds that a verified token is remembered. */
const longest = 60_000

/** Tolerated difference of clocks, in seconds. */
const tolerance = 5

/** Scopes by RFC 8693 (`scope`, joined by spaces), or as some issuers have them (`scp`, a list or the same text). */
const scopesOf = ({ scope, scp }: JWTPayload): ReadonlySet<string> =>
  new Set(
    [scope, scp].flatMap((some) =>
      typeof some === "string" ? some.split(" ") : Array.isArray(some) ? some.map(String) : []
    )
  )

/** What is wrong with a token, in words that have no part of it. */
const problemOf = (
  { claim, code }: { readonly code?: string; readonly claim?: string },
  { audience, issuer }: JwtOptions
) => {
  switch (code) {
    case "ERR_JWT_EXPIRED":
      return "the token has expired"
    case "ERR_JWS_SIGNATURE_VERIFICATION_FAILED":
      return "the signature of the token is wrong"
    case "ERR_JWKS_NO_MATCHING_KEY":
    case "ERR_JWKS_MULTIPLE_MATCHING_KEYS":
      return "the token is signed with a key that its issuer does not publish"
    case "ERR_JWT_CLAIM_VALIDATION_FAILED":
      return claim === "iss"
        ? `the token is not from ${issuer}`
        : claim === "aud"
        ? `the token is not for ${audience}`
        : claim === "nbf"
        ? "the token is not valid yet"
        : `the claim ${claim === "exp" || claim === "sub" ? claim : "of a time"} of the token is missing or wrong`
    case "ERR_JOSE_ALG_NOT_ALLOWED":
    case "ERR_JOSE_NOT_SUPPORTED":
      return "the algorithm of the token is not allowed: use a signature with a public key"
    case "ERR_JWS_INVALID":
    case "ERR_JWT_INVALID":
      return "the token is no JWT"
    default:
      return "the key of the token cannot be used"
  }
}

const unavailable = new Refused({
  refusal: {
    code: "UNAVAILABLE",
    reason: "KEYS_UNAVAILABLE",
    details: "the keys of the issuer of tokens cannot be read"
  }
})

/**
 * Takes callers by the subject of a JWT that the issuer has signed. A token with a key that is not known yet is refused with
 * UNAVAILABLE while the issuer gives no keys; tokens with known keys are taken meanwhile.
 */
export const make = Effect.fnUntraced(function*(options: JwtOptions) {
  const jose = yield* Effect.promise(() => import("jose"))
  const clock = yield* Effect.clock
  const keys = yield* KeySet.make(options, () => bearer.forget())

  const verified = (token: string) =>
    Effect.tryPromise({
      try: () =>
        jose.jwtVerify(token, keys.keyOf(), {
          issuer: options.issuer,
          audience: options.audience,
          algorithms,
          requiredClaims: ["exp", "sub"],
          clockTolerance: tolerance,
          currentDate: new Date(clock.unsafeCurrentTimeMillis())
        }),
      catch: (cause) => new NotVerified({ cause: cause as NotVerified["cause"] })
    })

  const verify = (token: string) =>
    verified(token).pipe(
      Effect.catchIf(({ cause }) => cause.code === "ERR_JWKS_NO_MATCHING_KEY", (error) =>
        Effect.flatMap(keys.renew, (renewed) => renewed ? verified(token) : error)),
      Effect.catchTags({
        NotVerified: ({ cause }) =>
          badCredential(problemOf(cause, options)),
        KeysUnavailable: () => unavailable
      }),
      Effect.flatMap(({ payload }) =>
        Effect.gen(function*() {
          if (!isName(payload.sub!)) {
            return yield* badCredential("the subject of the token is not a name of 1 to 200 characters")
          }
          const caller: Caller = { name: payload.sub!, scopes: scopesOf(payload) }
          const now = yield* Clock.currentTimeMillis
          return { caller, until: Math.min((payload.exp! + tolerance) * 1_000, now + longest) }
        })
      )
    )
  const bearer: ReturnType<typeof Bearer.make> = Bearer.make(clock, verify)
  return bearer.authenticator
})
