import { Clock, Data, Effect, Schema } from "effect"
import type { JWTPayload, JWTVerifyGetKey } from "jose"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as Followed from "../../runtime/Followed.js"
import * as Bearer from "./Bearer.js"
import type { Caller } from "./Caller.js"
import { badCredential, isName, Refused } from "./Caller.js"

/** The file of the issuer's keys cannot be used. */
export class KeysUnusable extends Schema.TaggedError<KeysUnusable>()("KeysUnusable", {
  variable: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.variable} ${this.problem}`
  }
}

/** The error of `jose` about a token, or about the keys. */
class NotVerified extends Data.TaggedError("NotVerified")<{
  readonly cause: Error & { readonly code?: string; readonly claim?: string }
}> {}

export interface JwtOptions {
  /** JSON Web Key Set of the issuer: `https:`, `http:` or `file:`. */
  readonly keys: URL
  /** Variable that has that URL, for messages. */
  readonly variable: string
  readonly issuer: string
  readonly audience: string
  /** Pause between two looks for a changed file. Default: 5 seconds. */
  readonly every?: Parameters<typeof Effect.sleep>[0] | undefined
}

/** Signatures with a public key. With a shared secret (HS256), each server that checks tokens could also make them. */
const algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]

/** Longest time in milliseconds that a verified token is remembered: after it, a key that the issuer withdrew counts. */
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
      return undefined
  }
}

/** Reads a file of keys. */
const readKeys = ({ keys, variable }: JwtOptions) =>
  Effect.try({
    try: () => {
      const content = readFileSync(fileURLToPath(keys), "utf8")
      const set = JSON.parse(content) as { readonly keys: Array<{ readonly kty: string }> }
      if (!Array.isArray(set.keys)) throw new Error("it has no list of keys")
      return { content, set }
    },
    catch: (cause) =>
      new KeysUnusable({ variable, problem: `names a file that is no JSON Web Key Set: ${(cause as Error).message}` })
  })

/** Takes callers by the subject of a JWT that the issuer has signed. Its keys are fetched at the first token, and again when they are old. */
export const make = Effect.fnUntraced(function*(options: JwtOptions) {
  // loaded here: a service without JWTs starts faster
  const jose = yield* Effect.promise(() => import("jose"))
  const clock = yield* Effect.clock
  let keyOf: JWTVerifyGetKey
  let forget = () => {}
  if (options.keys.protocol === "file:") {
    const first = yield* readKeys(options)
    keyOf = jose.createLocalJWKSet(first.set)
    yield* Effect.forkScoped(Followed.follow({
      what: `the key set in ${options.variable}`,
      read: readKeys(options),
      same: (one, other) => one.content === other.content,
      first,
      changed: ({ set }) => {
        keyOf = jose.createLocalJWKSet(set)
        forget()
      },
      every: options.every ?? "5 seconds"
    }))
  } else {
    keyOf = jose.createRemoteJWKSet(options.keys, { timeoutDuration: 3_000 })
  }

  let away: string | undefined
  const keysAway = Effect.fnUntraced(function*({ message }: Error) {
    if (away !== message) yield* Effect.logWarning(`no keys from ${options.variable}: ${message}`)
    away = message
    return yield* new Refused({
      refusal: {
        code: "UNAVAILABLE",
        reason: "KEYS_UNAVAILABLE",
        details: "the keys of the issuer of tokens cannot be read"
      }
    })
  })

  const verify = (token: string) =>
    Effect.tryPromise({
      try: () =>
        jose.jwtVerify(token, keyOf, {
          issuer: options.issuer,
          audience: options.audience,
          algorithms,
          requiredClaims: ["exp", "sub"],
          clockTolerance: tolerance,
          currentDate: new Date(clock.unsafeCurrentTimeMillis())
        }),
      catch: (cause) => new NotVerified({ cause: cause as NotVerified["cause"] })
    }).pipe(
      Effect.catchAll(({ cause }) => {
        const problem = problemOf(cause, options)
        return problem === undefined ? keysAway(cause) : Effect.fail(badCredential(problem))
      }),
      Effect.flatMap(({ payload }) =>
        Effect.gen(function*() {
          away = undefined
          if (!isName(payload.sub!)) {
            return yield* badCredential("the subject of the token is not a name of 1 to 200 characters")
          }
          const caller: Caller = { name: payload.sub!, scopes: scopesOf(payload) }
          const now = yield* Clock.currentTimeMillis
          return { caller, until: Math.min((payload.exp! + tolerance) * 1_000, now + longest) }
        })
      )
    )
  const bearer = Bearer.make(clock, verify)
  forget = bearer.forget
  return bearer.authenticator
})
