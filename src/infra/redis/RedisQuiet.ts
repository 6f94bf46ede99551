import type { Callback, RedisOptions } from "ioredis"
import { Redis as Client } from "ioredis"

const message = (error: unknown) => error instanceof Error ? error.message : String(error)

/** A server without a password, or one that knows no users (before 6): the connection works, or says NOAUTH itself. */
const takesNoPassword = /no password is set|without any password configured|wrong number of arguments for 'auth'/

type Answer = (error: Error | null | undefined, reply?: unknown) => void

/**
 * ioredis 5.11.1 writes to the console when a server takes no password although one was given, and when a user may not ask
 * for INFO. Neither keeps it from working. Here the first is told to `onUnused`, and the second is passed over: whether
 * the user may do what is needed shows when it is done.
 */
export const make = (url: string, options: RedisOptions, onUnused: (problem: string) => void): Client => {
  // what is called on connecting is looked up in the instance
  const client = new Client(url, { ...options, lazyConnect: true })
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
    auth: (credentials: unknown, then: Answer) =>
      settle(auth(credentials), (error) => {
        const unused = takesNoPassword.test(message(error))
        if (unused) onUnused(message(error))
        return unused
      }, then),
    info: (then: Callback<string>) => settle(info(), (error) => message(error).includes("NOPERM"), then as Answer)
  })
}
