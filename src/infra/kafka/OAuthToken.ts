import { HttpClient, HttpClientRequest } from "@effect/platform"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { Clock, Effect, Layer, Option, Redacted, Schema } from "effect"
import type { FileUnusable } from "../runtime/FileUnusable.js"
import { innermost, wordsOf } from "../runtime/Innermost.js"
import type { Secret, SecretUnreadable } from "../runtime/Secret.js"
import type { TlsFiles } from "../tls/Tls.js"
import * as Tls from "../tls/Tls.js"

/** A token endpoint, and our account there. */
export interface Endpoint {
  readonly url: string
  readonly clientId: string
  readonly clientSecret: Secret
  readonly scope: Option.Option<string>
  readonly tls: TlsFiles
}

/** The endpoint refused our account. Only other settings help. */
export class TokenRefused extends Schema.TaggedError<TokenRefused>()("TokenRefused", {
  url: Schema.String,
  /** The error word of the endpoint, e.g. `invalid_client`, or its HTTP status. */
  word: Schema.String
}) {
  override get message() {
    return `the token endpoint ${this.url} refuses the login: ${this.word} ` +
      "(KAFKA_OAUTH_CLIENT_ID, KAFKA_OAUTH_CLIENT_SECRET, KAFKA_OAUTH_SCOPE)"
  }
}

/** The endpoint did not answer, or not with a token. A later attempt may work. */
export class TokenUnavailable extends Schema.TaggedError<TokenUnavailable>()("TokenUnavailable", {
  url: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `the token endpoint ${this.url} (KAFKA_OAUTH_TOKEN_URL) gives no token: ${this.problem}`
  }
}

export type TokenError = TokenRefused | TokenUnavailable | SecretUnreadable | FileUnusable

/** The token of this process, shared by all connections. */
export interface OAuthToken {
  /** The current token; a new one when the current one is about to expire. */
  readonly get: Effect.Effect<Redacted.Redacted, TokenError>
  /** Drops the current token: a broker has refused it. */
  readonly forget: Effect.Effect<void>
}

/** RFC 6749, 5.1. RFC 6750, 2.1 has the characters of a bearer token. */
const Answer = Schema.parseJson(Schema.Struct({
  access_token: Schema.String.pipe(Schema.pattern(/^[A-Za-z0-9\-._~+/]+=*$/)),
  /** Seconds. Some endpoints send text. */
  expires_in: Schema.optional(Schema.Union(Schema.Number, Schema.NumberFromString))
}))

/** RFC 6749, 5.2. */
const Refusal = Schema.parseJson(Schema.Struct({ error: Schema.String.pipe(Schema.pattern(/^[\x20-\x7e]{1,100}$/)) }))

/** Seconds that a token without a lifetime is used for. */
const unknownLifetime = 60

/** Milliseconds before the end of a token at which it is renewed: a fifth of its life, and 30 s where its life is long enough. */
const margin = (life: number) => Math.max(life / 5, Math.min(30_000, life / 2))

/** `application/x-www-form-urlencoded`, as RFC 6749, 2.3.1 wants id and secret. */
const encoded = (text: string) => new URLSearchParams([["", text]]).toString().slice(1)

const problemOf = (error: unknown): string => {
  const cause = innermost(error)
  const tls = Tls.explain(cause)
  return tls === undefined ? wordsOf(cause) : `${tls}: KAFKA_OAUTH_TLS_CA names the authorities to trust`
}

/** Asks for a token with client credentials (RFC 6749, 4.4). */
const request = Effect.fnUntraced(function*({ clientId, clientSecret, scope, tls, url }: Endpoint) {
  const secret = yield* clientSecret.get
  const files = yield* Tls.load(tls)
  const unavailable = (problem: string) => new TokenUnavailable({ url, problem })
  const asked = HttpClientRequest.post(url).pipe(
    HttpClientRequest.basicAuth(encoded(clientId), encoded(Redacted.value(secret))),
    HttpClientRequest.acceptJson,
    HttpClientRequest.bodyUrlParams({
      grant_type: "client_credentials",
      ...Option.match(scope, { onNone: () => ({}), onSome: (scope) => ({ scope }) })
    })
  )
  const http = Layer.provide(NodeHttpClient.layerWithoutAgent, NodeHttpClient.makeAgentLayer(files))
  const [status, body] = yield* Effect.flatMap(HttpClient.HttpClient, (client) =>
    // a trace would show the request to a third party
    HttpClient.withTracerPropagation(client, false).execute(asked)).pipe(
      Effect.flatMap((response) => Effect.map(response.text, (text) => [response.status, text] as const)),
      Effect.provide(http),
      Effect.mapError((error) => unavailable(problemOf(error))),
      Effect.timeoutFail({ duration: "5 seconds", onTimeout: () => unavailable("no answer within 5 s") })
    )
  if (status >= 500 || status === 429) return yield* unavailable(`HTTP status ${status}`)
  if (status !== 200) {
    const word = Option.match(Schema.decodeOption(Refusal)(body), {
      onNone: () => `HTTP status ${status}`,
      onSome: ({ error }) => error
    })
    return yield* new TokenRefused({ url, word })
  }
  return yield* Effect.mapError(
    Schema.decode(Answer)(body),
    () => unavailable("its answer has no access_token")
  )
})

/** Milliseconds between two lines about a token that is not renewed: each login tries. */
const remindEvery = 60_000

/** A token that is asked for at the first use, and renewed in time. One request is under way at a time. */
export const make = (endpoint: Endpoint): OAuthToken => {
  let current: { readonly token: Redacted.Redacted; readonly renewAt: number; readonly endsAt: number } | undefined
  /** Time of the last line about a renewal that failed; undefined when none has failed since the last success. */
  let warnedAt: number | undefined
  const gate = Effect.unsafeMakeSemaphore(1)
  const renew = Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const { access_token, expires_in = unknownLifetime } = yield* request(endpoint)
    const life = expires_in * 1_000
    const token = Redacted.make(access_token)
    current = { token, renewAt: now + life - margin(life), endsAt: now + life }
    if (warnedAt !== undefined) yield* Effect.logInfo("the Kafka token is renewed again")
    warnedAt = undefined
    return token
  })
  return {
    get: gate.withPermits(1)(Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const held = current
      if (held === undefined || now >= held.endsAt) return yield* renew
      if (now < held.renewAt) return held.token
      return yield* Effect.catchAll(renew, (error) => {
        if (warnedAt !== undefined && now - warnedAt < remindEvery) return Effect.succeed(held.token)
        warnedAt = now
        return Effect.as(Effect.logWarning("the Kafka token is not renewed yet", error), held.token)
      })
    })),
    forget: Effect.sync(() => void (current = undefined))
  }
}
