import { Effect, Option } from "effect"
import * as Net from "node:net"

/** Size of a port range. Each process owns one, below the ports that the local stack and the system choose from. */
const [first, ranges, size] = [10_000, 200, 50]

const listen = (port: number) =>
  Effect.async<Option.Option<Net.Server>>((resume) => {
    const server = Net.createServer()
    server.once("error", () => resume(Effect.succeedNone))
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => resume(Effect.succeedSome(server)))
  })

const isFree = (port: number) =>
  Effect.flatMap(
    listen(port),
    Option.match({
      onNone: () => Effect.succeed(false),
      onSome: (server) => Effect.async<boolean>((resume) => void server.close(() => resume(Effect.succeed(true))))
    })
  )

/** Takes the first range whose first port is free, and keeps that port bound as a sign that the range is taken. */
const take = (range: number, left = ranges): Effect.Effect<number> =>
  Effect.flatMap(
    listen(first + (range % ranges) * size),
    Option.match({
      onNone: () => left === 1 ? Effect.dieMessage("no range of ports is free for tests") : take(range + 1, left - 1),
      onSome: (server) => Effect.sync(() => (server.unref().address() as Net.AddressInfo).port)
    })
  )

const own = Effect.runSync(Effect.cached(take(process.pid)))
let given = 0

/** A free port for a server that may start later: no other test gets the port meanwhile. */
export const freePort: Effect.Effect<number> = Effect.flatMap(own, (range) => {
  const port = range + 1 + given++ % (size - 1)
  return Effect.flatMap(isFree(port), (free) => free ? Effect.succeed(port) : freePort)
})
