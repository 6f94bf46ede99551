import type { Scope } from "effect"
import { Effect, Random } from "effect"
import * as Net from "node:net"
import { networkInterfaces } from "node:os"
import type { Part } from "./LocalStackError.js"
import { LocalStackError } from "./LocalStackError.js"

const variable = { postgres: "LOCAL_POSTGRES_PORT", redis: "LOCAL_REDIS_PORT", kafka: "LOCAL_KAFKA_PORT" }

/** The loopback addresses of this machine; `::1` only if it has IPv6. */
export const loopback = (): ReadonlyArray<string> => {
  const addresses = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return ["127.0.0.1", ...(addresses.some(({ address }) => address === "::1") ? ["::1"] : [])]
}

const bind = (host: string, port: number): Effect.Effect<void, NodeJS.ErrnoException, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<Net.Server, NodeJS.ErrnoException>((resume) => {
      const server = Net.createServer()
      server.once("error", (error) => resume(Effect.fail(error)))
      server.listen({ host, port, exclusive: true }, () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void)))
  )

/** True when something accepts connections there: on macOS a bind to 127.0.0.1 succeeds beside a 0.0.0.0 listener. */
const accepts = (port: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() => Net.connect({ host: "127.0.0.1", port })),
    (socket) =>
      Effect.async<boolean>((resume) => {
        socket.once("connect", () => resume(Effect.succeed(true)))
        socket.once("error", () => resume(Effect.succeed(false)))
      }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const check = Effect.fnUntraced(function*(part: Part, port: number) {
  const refused = (why: string) => (cause?: unknown) =>
    new LocalStackError({
      part,
      problem: `port ${port} ${why}`,
      wayOut: `Stop the program that uses it, or choose another port: ${variable[part]}=${port + 1}`,
      cause
    })
  if (yield* accepts(port)) return yield* refused("is in use by another program")()
  yield* bind("127.0.0.1", port).pipe(
    Effect.zipRight(Effect.catchIf(
      bind("::1", port),
      // a machine without IPv6
      (error) => error.code === "EADDRNOTAVAIL" || error.code === "EAFNOSUPPORT",
      () => Effect.void
    )),
    Effect.mapError((error) =>
      refused(error.code === "EADDRINUSE" ? "is in use by another program" : `cannot be used: ${error.message}`)(error)
    )
  )
  return port
})

/**
 * A free port between 20000 and 30000. That is below the range of outgoing connections (from 32768 on Linux, 49152 on macOS),
 * so no connection takes the port before the server does.
 */
export const free: Effect.Effect<number, never, Scope.Scope> = Effect.flatMap(
  Random.nextIntBetween(20_000, 30_000),
  (port) => Effect.as(bind("127.0.0.1", port), port)
).pipe(Effect.retry({ times: 100 }), Effect.orDie)

/**
 * The wanted port, or any free one for 0. The scope keeps a free port bound, so that no other part gets it. Fails when the port
 * is in use, with the variable that changes it.
 */
export const resolve = (part: Part, wanted: number): Effect.Effect<number, LocalStackError, Scope.Scope> =>
  wanted === 0 ? free : check(part, wanted)
