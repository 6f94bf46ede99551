import { Effect } from "effect"
import * as Net from "node:net"

/** Ports that a process may give away, and where its own begin: neighbours by number run at the same time. */
const count = 50
const first = 10_000 + (process.pid % 200) * count
let next = 0

const isFree = (port: number) =>
  Effect.async<boolean>((resume) => {
    const server = Net.createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resume(Effect.succeed(true))))
  })

/**
 * A port that nobody listens on, for a server that may take a while to come.
 *
 * From a range in which neither the system nor the local stack looks for free ones, and a part of it that is this
 * process's own: what is not bound yet is not given to another test either.
 */
export const freePort: Effect.Effect<number> = Effect.suspend(() => {
  const port = first + next++ % count
  return Effect.flatMap(isFree(port), (free) => free ? Effect.succeed(port) : freePort)
})
