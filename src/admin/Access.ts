import { HttpApiError, HttpServerRequest } from "@effect/platform"
import { Effect, Layer, Option, Redacted } from "effect"
import { createHash, timingSafeEqual } from "node:crypto"
import type { Scope } from "../domain/Scope.js"
import { scopes } from "../domain/Scope.js"
import type { Caller } from "../infra/auth/Caller.js"
import { isLoopback } from "../infra/runtime/Loopback.js"
import * as Rate from "../infra/runtime/Rate.js"
import type { Secret } from "../infra/runtime/Secret.js"
import { Admin, changeHeader, cookieName, Settles, Writes } from "./api/Access.js"
import { ForeignRequest, MissingScope, TooMany } from "./api/Refusals.js"
import * as Sessions from "./Sessions.js"

/** The tokens of the operations API. */
export interface AdminTokens {
  /** A token without a name, which may do everything. */
  readonly unnamed: Secret | undefined
  /** Finds the owner of a named token. */
  readonly named: ((token: string) => Caller | undefined) | undefined
}

export interface AccessOptions extends AdminTokens {
  /** The local stack of `npm start`: every request of this machine may do everything. */
  readonly local: boolean
  /** The server speaks TLS. */
  readonly tls: boolean
}

/** The author of a request: what it may do, and under which name. */
export interface Who {
  readonly name: Option.Option<string>
  readonly scopes: ReadonlySet<string>
  /** When its session ends; undefined without a session. */
  readonly endsAt: Date | undefined
}

/** Requests of one session a second. */
const requestsPerSecond = 50
/** Sign-in attempts a second: of one address, and of all. */
const attempts = { address: 1, all: 10 } as const

const all: ReadonlySet<string> = new Set(scopes)
const local: Who = { name: Option.some("local"), scopes: all, endsAt: undefined }

const digest = (token: Redacted.Redacted) => createHash("sha256").update(Redacted.value(token)).digest()

type Request = HttpServerRequest.HttpServerRequest

const isSafe = ({ method }: Request) => method === "GET" || method === "HEAD"

/** The host of a `Host` header, without its port. */
const hostOf = (header: string | undefined) => /^(\[[0-9a-f:.]+\]|[^:[\]]+)(?::\d{1,5})?$/i.exec(header ?? "")?.[1]

/**
 * Why a request that a browser sends by itself (with a cookie, or without any credential on a local stack) is refused; undefined
 * when it is not. A form or an image of another site cannot send the header, and a page of another site may not (no CORS).
 * `Sec-Fetch-Site` and `Origin` come from the browser and cannot be forged by a page.
 */
const foreign = (request: Request): string | undefined => {
  const { headers } = request
  const site = headers["sec-fetch-site"]
  if (site !== undefined && site !== "same-origin" && !(site === "none" && isSafe(request))) {
    return `the request comes from another site (Sec-Fetch-Site is ${site.slice(0, 20)})`
  }
  const origin = headers.origin
  if (origin !== undefined && !(URL.canParse(origin) && new URL(origin).host === headers.host)) {
    return "the request comes from another site: its Origin is not this server"
  }
  return isSafe(request) || headers[changeHeader] === "1" ? undefined : `the header ${changeHeader}: 1 is missing`
}

/**
 * A name of this machine in `Host`: after a page has pointed its own name to this machine (DNS rebinding), its requests have
 * that name there.
 */
const isLocalHost = (request: Request) => {
  const host = hostOf(request.headers.host)
  return host !== undefined && isLoopback(host.replace(/^\[|\]$/g, ""))
}

/** The token of the header `authorization`; undefined without the header. */
const bearerOf = ({ headers: { authorization } }: Request) =>
  authorization === undefined ? undefined : Redacted.make(/^bearer +(\S+)$/i.exec(authorization)?.[1] ?? "")

/** Decides who makes a request and what it may do. */
export const make = Effect.fnUntraced(function*({ local: isLocal, named, tls, unnamed }: AccessOptions) {
  const clock = yield* Effect.clock
  const sessions = yield* Sessions.make
  const ofSession = Rate.make(requestsPerSecond, clock)
  const ofAddress = Rate.make(attempts.address, clock)
  const ofAll = Rate.make(attempts.all, clock)
  const cookie = tls ? `__Host-${cookieName}` : cookieName

  const isUnnamed = (given: Redacted.Redacted) =>
    unnamed === undefined ? Effect.succeed(false) : Effect.match(unnamed.get, {
      onFailure: (error) => error,
      onSuccess: (token) => timingSafeEqual(digest(given), digest(token))
    }).pipe(Effect.flatMap((found) =>
      typeof found === "boolean"
        ? Effect.succeed(found)
        : Effect.as(Effect.logError("operations API: no token to compare with", found), false)
    ))

  /** The owner of a token. The comparison takes the same time for every token of the caller. */
  const ownerOf = (token: Redacted.Redacted, name: string | undefined) =>
    Effect.gen(function*() {
      const owner = named?.(Redacted.value(token))
      if (owner !== undefined) return { name: Option.some(owner.name), scopes: owner.scopes } as const
      if (yield* isUnnamed(token)) return { name: Option.fromNullable(name), scopes: all } as const
      return yield* new HttpApiError.Unauthorized()
    })

  const limited = (millis: number, what: string) =>
    millis === 0 ? Effect.void : new TooMany({
      message: `too many ${what}: wait ${Math.ceil(millis / 1_000)} s`,
      retry_after_seconds: Math.ceil(millis / 1_000)
    })

  /** Whether the author of a request that was admitted may still look: its session is not over, and its token not revoked. */
  const stillMayRead = (request: Request) => {
    const id = request.cookies[cookie]
    const session = id === undefined ? undefined : sessions.look(id)
    const token = bearerOf(request) ?? session?.token
    return token === undefined ? Effect.succeed(isLocal) : Effect.match(ownerOf(token, undefined), {
      onFailure: () => false,
      onSuccess: ({ scopes }) => scopes.has("operations:read")
    })
  }

  /** Who makes the request: by its bearer token, by its session, or on a local stack by its way. */
  const identify = Effect.fnUntraced(function*(request: Request) {
    const bearer = bearerOf(request)
    if (bearer !== undefined) return { ...yield* ownerOf(bearer, undefined), endsAt: undefined } satisfies Who
    const id = request.cookies[cookie]
    const session = id === undefined ? undefined : sessions.find(id)
    if (session === undefined && !isLocal) return yield* new HttpApiError.Unauthorized()
    if (isLocal && !isLocalHost(request)) {
      return yield* new ForeignRequest({
        message: "the console of a local stack answers to 127.0.0.1 and localhost only: open it by that name"
      })
    }
    const problem = foreign(request)
    if (problem !== undefined) return yield* new ForeignRequest({ message: problem })
    if (session === undefined) return local
    yield* limited(ofSession(session.key), "requests of this session")
    const owner = yield* Effect.tapError(
      ownerOf(session.token, session.name),
      () => Effect.sync(() => sessions.end(id!))
    )
    return { ...owner, endsAt: session.endsAt } satisfies Who
  })

  /**
   * Signs in with a token. Returns the id of the session. Fails with `Unauthorized` for a wrong token, and with `undefined` for
   * a right token without a name while the request gives none.
   */
  const signIn = Effect.fnUntraced(function*(request: Request, token: string, name: string | undefined) {
    const problem = foreign(request)
    if (problem !== undefined) return yield* new ForeignRequest({ message: problem })
    const address = Option.getOrElse(request.remoteAddress, () => "")
    yield* limited(Math.max(ofAddress(address), ofAll("")), "sign-in attempts")
    const redacted = Redacted.make(token)
    const owner = yield* Effect.tapError(ownerOf(redacted, name), () =>
      Effect.annotateLogs(Effect.logWarning("console: a sign-in was refused"), { address }))
    if (Option.isNone(owner.name)) return undefined
    const id = sessions.begin({ token: redacted, name: Option.getOrUndefined(owner.name) })
    yield* Effect.annotateLogs(Effect.logInfo("console: signed in"), { operator: owner.name.value, address })
    return { id, who: { ...owner, endsAt: sessions.find(id)!.endsAt } satisfies Who } as const
  })

  /** Ends the session of a request. */
  const signOut = Effect.fnUntraced(function*(request: Request) {
    const problem = foreign(request)
    if (problem !== undefined) return yield* new ForeignRequest({ message: problem })
    const id = request.cookies[cookie]
    if (id !== undefined) sessions.end(id)
  })

  /** Lets requests pass whose author has the scope. Another scope is no way around a missing one. */
  const admitting = (scopeOf: (request: Request) => Scope) => {
    const refused = new WeakMap<object, HttpApiError.Unauthorized | MissingScope | ForeignRequest | TooMany>()
    const decide = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      const { name, scopes } = yield* identify(request)
      const scope = scopeOf(request)
      if (scopes.has(scope)) return name
      const owner = Option.getOrElse(name, () => "the caller")
      return yield* new MissingScope({ message: `the token of ${owner} lacks the scope ${scope}` })
    })
    // the platform tries the second way after the first has failed; one decision is for both
    const token = () =>
      Effect.tapError(decide, (error) =>
        Effect.map(HttpServerRequest.HttpServerRequest, ({ source }) => void refused.set(source as object, error)))
    const session = () =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ source }) => {
        const error = refused.get(source as object)
        return error === undefined ? decide : Effect.fail(error)
      })
    return { token, session }
  }

  const layer = Layer.mergeAll(
    Layer.succeed(Admin, admitting((request) => isSafe(request) ? "operations:read" : "operations:change")),
    Layer.succeed(Settles, admitting(() => "payments:settle")),
    Layer.succeed(Writes, admitting(() => "inventory:write"))
  )

  return { cookie, identify, stillMayRead, signIn, signOut, layer, tls, isLocal } as const
})

export type Access = Effect.Effect.Success<ReturnType<typeof make>>
