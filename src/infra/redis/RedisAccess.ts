import { Effect, Redacted } from "effect"
import type { RedisOptions } from "ioredis"
import { isIP } from "node:net"
import type { Secret } from "../runtime/Secret.js"
import * as Tls from "../tls/Tls.js"

/** Address of a Redis server, and what it takes to enter. */
export interface RedisServer {
  /** `redis://` or `rediss://` (TLS), with user, and with the password when there is no other. */
  readonly url: Redacted.Redacted
  /** Password of each new connection, instead of the one in the URL. */
  readonly password?: Secret | undefined
  /** For `rediss://`. */
  readonly tls?: Tls.TlsFiles | undefined
}

/** True when connections are encrypted. */
export const encrypted = ({ url }: RedisServer) => new URL(Redacted.value(url)).protocol === "rediss:"

/** Options of the next connection. Password and certificates are read again, so that new ones need no restart. */
export const options = Effect.fnUntraced(function*(server: RedisServer) {
  const { hostname } = new URL(Redacted.value(server.url))
  const password = server.password === undefined ? undefined : Redacted.value(yield* server.password.get)
  const host = hostname.replace(/^\[|\]$/g, "")
  const options: RedisOptions = {
    ...(password === undefined ? {} : { password }),
    ...(encrypted(server)
      ? {
        tls: {
          // providers with many servers at one address choose by it
          ...(isIP(host) === 0 ? { servername: host } : {}),
          ...yield* Tls.load(server.tls ?? { prefix: "REDIS_TLS" })
        }
      }
      : {})
  }
  return options
})
