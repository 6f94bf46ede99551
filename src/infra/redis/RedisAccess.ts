import { Effect, Redacted } from "effect"
import type { RedisOptions } from "ioredis"
import { isIP } from "node:net"
import type { Secret } from "../runtime/Secret.js"
import * as Tls from "../tls/Tls.js"
import type { Place } from "./RedisProblem.js"
import * as RedisUrl from "./RedisUrl.js"

/** Address of a Redis server, and what it takes to enter. */
export interface RedisServer {
  /** As `RedisUrl` reads it, with user, and with the password when there is no other. */
  readonly url: Redacted.Redacted
  /** Password of each new connection, instead of the one in the URL. */
  readonly password?: Secret | undefined
  /** For a URL whose connections are encrypted. */
  readonly tls?: Tls.TlsFiles | undefined
}

/** What the reason of a problem depends on. */
export const place = ({ url }: RedisServer): Place => {
  const { sentinels, tls } = RedisUrl.parse(url)
  return { tls, sentinels: sentinels !== undefined }
}

/** Options of the next connection. Password and certificates are read again, so that new ones need no restart. */
export const options = Effect.fnUntraced(function*(server: RedisServer) {
  const { host, tls } = RedisUrl.parse(server.url)
  const password = server.password === undefined ? undefined : Redacted.value(yield* server.password.get)
  const options: RedisOptions = {
    ...(password === undefined ? {} : { password }),
    ...(tls
      ? {
        tls: {
          // providers with many servers at one address choose by it
          ...(host !== undefined && isIP(host) === 0 ? { servername: host } : {}),
          ...yield* Tls.load(server.tls ?? { prefix: "REDIS_TLS" })
        }
      }
      : {})
  }
  return options
})
