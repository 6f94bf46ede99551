import type { Callback, Redis as Client } from "ioredis"

const message = (error: unknown) => error instanceof Error ? error.message : String(error)

/** Answers to AUTH of a server without a password or without users (before 6). The connection may still work. */
const takesNoPassword = /no password is set|without any password configured|wrong number of arguments for 'auth'/

type Answer = (error: Error | null | undefined, reply?: unknown) => void

/**
 * Keeps a client from writing to the console. ioredis 5.11.1 does so when the server requires no password and the client has
 * one, and when the user may not run INFO; it works in both cases. Here `onUnused` receives the first problem. The second
 * is ignored: a missing permission for a needed command shows when the command runs.
 */
export const quieten = (client: Client, onUnused: (problem: string) => void): void => {
  // ioredis calls `auth` and `info` of the instance when it connects
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
  Object.assign(client, {
    auth: (credentials: unknown, then: Answer) =>
      settle(auth(credentials), (error) => {
        const unused = takesNoPassword.test(message(error))
        if (unused) onUnused(message(error))
        return unused
      }, then),
    info: (then: Callback<string>) => settle(info(), (error) => message(error).includes("NOPERM"), then as Answer)
  })
}
