import { Clock, Duration, Effect, Schema } from "effect"
import type { JWTVerifyGetKey } from "jose"
import { readFile } from "node:fs/promises"
import { FileUnusable } from "../../runtime/FileUnusable.js"
import { innermost, wordsOf } from "../../runtime/Innermost.js"
import * as Tls from "../../tls/Tls.js"

/** The issuer does not give its keys. A later attempt may work. */
export class KeysUnavailable extends Schema.TaggedError<KeysUnavailable>()("KeysUnavailable", {
  variable: Schema.String,
  problem: Schema.String
}) {
  readonly waitsFor = "issuer"
  override get message() {
    return `${this.variable} gives no keys: ${this.problem}`
  }
}

export interface KeySetOptions {
  /** JSON Web Key Set of the issuer: `https:`, `http:` or `file:`. */
  readonly keys: URL
  /** Variable that has that URL, for messages. */
  readonly variable: string
  /** Called after each attempt to load the keys, with the failure or with undefined. */
  readonly onLoad?: (failure: KeysUnavailable | undefined) => void
  /** Pause between two loads; after a failure at most 5 seconds. Default: 1 minute, and 5 seconds for a file. */
  readonly every?: Duration.DurationInput | undefined
}

/**
 * Milliseconds after an attempt in which a token with an unknown key causes no other, because callers choose the names of keys;
 * and the longest pause after a failure.
 */
const atRest = 5_000

/**
 * The keys of an issuer, loaded at once and again at intervals for the life of the scope. While the issuer gives none, the last
 * ones stay in use. Fails when the first attempt does: with `KeysUnavailable`, or with `FileUnusable` for a file.
 */
export const make = Effect.fnUntraced(
  function*({ every: given, keys, onLoad = () => {}, variable }: KeySetOptions, changed: () => void) {
    // loaded here: a service without JWTs starts faster
    const jose = yield* Effect.promise(() => import("jose"))
    const isFile = keys.protocol === "file:"
    const every = Duration.toMillis(given ?? (isFile ? "5 seconds" : "1 minute"))
    const source = jose.createRemoteJWKSet(keys, {
      timeoutDuration: 3_000,
      ...(isFile ? { [jose.customFetch]: () => readFile(keys).then((content) => new Response(content)) } : {})
    })
    let content: string | undefined
    let keyOf: JWTVerifyGetKey
    let failure: KeysUnavailable | undefined
    let triedAt = 0
    let loads = 0
    const oneLoad = yield* Effect.makeSemaphore(1)

    const load = Effect.gen(function*() {
      triedAt = yield* Clock.currentTimeMillis
      yield* Effect.tryPromise({
        try: () => source.reload(),
        catch: (error) => {
          const cause = innermost(error)
          return new KeysUnavailable({ variable, problem: Tls.explain(cause) ?? wordsOf(cause) })
        }
      })
      loads++
      const set = source.jwks()!
      const next = JSON.stringify(set)
      if (next === content) return
      keyOf = jose.createLocalJWKSet(set)
      const isFirst = content === undefined
      content = next
      if (isFirst) return
      changed()
      yield* Effect.logInfo(`the keys of ${variable} were replaced`)
    }).pipe(Effect.tapBoth({
      onFailure: (error) => Effect.sync(() => onLoad(failure = error)),
      onSuccess: () => Effect.sync(() => onLoad(failure = undefined))
    }))

    yield* isFile
      ? Effect.mapError(
        load,
        ({ problem }) => new FileUnusable({ variable, problem: `names a file that is no JSON Web Key Set: ${problem}` })
      )
      : load
    const isDue = Effect.map(Clock.currentTimeMillis, (now) => failure !== undefined || now - triedAt >= every)
    yield* Effect.ignore(load).pipe(
      Effect.whenEffect(isDue),
      oneLoad.withPermits(1),
      Effect.delay(Math.min(every, atRest)),
      Effect.forever,
      // servers are made where nothing can be interrupted, and their end must end this too
      Effect.interruptible,
      Effect.forkScoped
    )

    /**
     * Loads the keys for a token with an unknown key, or waits for a load that is under way. False: they are fresh, so that the
     * issuer does not publish that key. Fails when the issuer gives no keys.
     */
    const renew = Effect.suspend(() => {
      const before = loads
      return Effect.gen(function*() {
        if (loads !== before) return true
        const now = yield* Clock.currentTimeMillis
        if (now - triedAt >= atRest) return yield* Effect.as(load, true)
        if (failure !== undefined) return yield* failure
        return false
      }).pipe(oneLoad.withPermits(1))
    })
    return { keyOf: () => keyOf, renew } as const
  }
)
