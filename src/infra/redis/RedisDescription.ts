import { Clock, Effect, Either } from "effect"
import { RedisUnavailable } from "./Redis.js"
import type { RedisServer } from "./RedisAccess.js"
import { place } from "./RedisAccess.js"
import * as RedisConnection from "./RedisConnection.js"
import { problemOf } from "./RedisProblem.js"

/** A Redis server as it describes itself. */
export interface Description {
  readonly version: string
  /** `master` or `slave`. */
  readonly role: string
  readonly cluster: boolean
  readonly usedBytes: number
  /** 0: no limit. */
  readonly maxBytes: number
  readonly systemBytes: number
  readonly policy: string
  readonly evictedKeys: number
  /** How far the clock of this host is ahead of the server's, in milliseconds. */
  readonly clockAhead: number
}

const fields = (info: string) =>
  new Map(
    info.split(/\r?\n/).map((line) => {
      const colon = line.indexOf(":")
      return [line.slice(0, colon), line.slice(colon + 1)] as const
    })
  )

/**
 * Reads what INFO and TIME say. Left: why this user may not read it. Fails with `RedisUnavailable`; its cause has the reason,
 * without a command and an argument.
 */
export const describe = (server: RedisServer): Effect.Effect<Either.Either<Description, string>, RedisUnavailable> =>
  Effect.gen(function*() {
    let failure: unknown
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const redis = RedisConnection.make(server, {
          maxRetriesPerRequest: 0,
          enableOfflineQueue: false,
          connectTimeout: 2_000,
          commandTimeout: 2_000,
          disableClientInfo: true,
          retryStrategy: () => null
        }, () => {})
        // `connect` fails with another error, which says less
        redis.on("error", (error) => (failure = error))
        return redis
      }),
      (redis) => Effect.sync(() => redis.disconnect())
    )
    const ask = <A>(f: () => Promise<A>) =>
      Effect.mapError(Effect.tryPromise(f), ({ error }) => problemOf(failure ?? error, place(server)))
    yield* ask(() => redis.connect())
    const asked = yield* Clock.currentTimeMillis
    const [seconds, micros] = yield* ask(() => redis.time())
    const answered = yield* Clock.currentTimeMillis
    const info = fields(yield* ask(() => redis.call("INFO") as Promise<string>))
    const number = (name: string) => Number(info.get(name) ?? 0)
    return Either.right<Description>({
      version: info.get("redis_version") ?? "unknown",
      role: info.get("role") ?? "unknown",
      cluster: info.get("cluster_enabled") === "1",
      usedBytes: number("used_memory"),
      maxBytes: number("maxmemory"),
      systemBytes: number("total_system_memory"),
      policy: info.get("maxmemory_policy") ?? "unknown",
      evictedKeys: number("evicted_keys"),
      clockAhead: (asked + answered) / 2 - (Number(seconds) * 1_000 + Number(micros) / 1_000)
    })
  }).pipe(
    Effect.scoped,
    Effect.catchAll(({ code, reason }) =>
      code === "NOPERM"
        ? Effect.succeed(Either.left(reason))
        : new RedisUnavailable({ cause: new Error(reason) })
    )
  )
