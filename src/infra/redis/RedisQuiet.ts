import { Effect, Either, Redacted } from "effect"
import type { Callback, RedisOptions } from "ioredis"
import { Redis as Client } from "ioredis"
import type { RedisServer } from "./RedisAccess.js"
import * as RedisAccess from "./RedisAccess.js"
import * as RedisUrl from "./RedisUrl.js"

const message = (error: unknown) => error instanceof Error ? error.message : String(error)

/** Answers to AUTH of a server without a password or without users (before 6). The connection may still work. */
const takesNoPassword = /no password is set|without any password configured|wrong number of arguments for 'auth'/

type Answer = (error: Error | null | undefined, reply?: unknown) => void

/**
 * Makes a client that does not write to the console. ioredis 5.11.1 does so when the server requires no password and the URL
 * has one, and when the user may not run INFO; it works in both cases. Here `onUnused` receives the first problem. The second
 * is ignored: a missing permission for a needed command shows when the command runs.
 *
 * Each connection gets the password and the certificates of that moment. While they cannot be read, the client emits `error`
 * and uses those before.
 */
export const make = (server: RedisServer, options: RedisOptions, onUnused: (problem: string) => void): Client => {
  // ioredis calls `auth` and `info` of the instance when it connects
  const { sentinels } = RedisUrl.parse(server.url)
  const client = sentinels === undefined
    ? new Client(Redacted.value(server.url), { ...options, lazyConnect: true })
    : new Client({ ...options, ...sentinels, lazyConnect: true })
  const connect = client.connect.bind(client)
  const auth = client.auth.bind(client) as (...args: ReadonlyArray<unknown>) => Promise<unknown>
  const info = client.info.bind(client) as () => Promise<string>
  const settle = (answer: Promise<unknown>, passes: (error: unknown) => boolean, then: Answer) =>
    answer.then(
      (reply) => {
        then(null, reply)
        return reply
      },
      (error: unknown) => {
        then(passes(error) ? null : error as Error, "")
        return ""
      }
    )
  return Object.assign(client, {
    // ioredis calls it for each connection, and reads `options` in it
    connect: (then?: Callback<void>) => {
      const access = Effect.runSync(Effect.either(RedisAccess.options(server)))
      if (Either.isRight(access)) Object.assign(client.options, access.right)
      else client.emit("error", access.left)
      return connect(then)
    },
    auth: (credentials: unknown, then: Answer) =>
      settle(auth(credentials), (error) => {
        const unused = takesNoPassword.test(message(error))
        if (unused) onUnused(message(error))
        return unused
      }, then),
    info: (then: Callback<string>) => settle(info(), (error) => message(error).includes("NOPERM"), then as Answer)
  })
}
