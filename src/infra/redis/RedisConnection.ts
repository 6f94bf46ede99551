import { Effect, Either, Redacted } from "effect"
import type { Callback, RedisOptions } from "ioredis"
import { Redis as Client } from "ioredis"
import type { RedisServer } from "./RedisAccess.js"
import * as RedisAccess from "./RedisAccess.js"
import * as RedisAuth from "./RedisAuth.js"
import * as RedisSentinels from "./RedisSentinels.js"
import * as RedisUrl from "./RedisUrl.js"

const client = (url: Redacted.Redacted, options: RedisOptions) => {
  const { password, sentinels, tls } = RedisUrl.parse(url)
  if (sentinels === undefined) return new Client(Redacted.value(url), options)
  const { database, user } = sentinels
  return new Client({
    ...options,
    Connector: RedisSentinels.connector(sentinels),
    ...(user === undefined ? {} : { username: user }),
    ...(password === undefined ? {} : { password }),
    db: database,
    // never in clear, also while the files of the settings cannot be read
    ...(tls ? { tls: {} } : {})
  })
}

/**
 * Makes a client that does not write to the console; `onUnused` learns that the server requires no password.
 *
 * Each connection gets the password and the certificates of that moment. While they cannot be read, the client emits `error`
 * and uses those before.
 */
export const make = (server: RedisServer, options: RedisOptions, onUnused: (problem: string) => void): Client => {
  const made = client(server.url, { ...options, lazyConnect: true })
  RedisAuth.quieten(made, onUnused)
  const connect = made.connect.bind(made)
  return Object.assign(made, {
    // ioredis calls it for each connection, and reads `options` in it
    connect: (then?: Callback<void>) => {
      const access = Effect.runSync(Effect.either(RedisAccess.options(server)))
      if (Either.isRight(access)) Object.assign(made.options, access.right)
      else made.emit("error", access.left)
      return connect(then)
    }
  })
}
