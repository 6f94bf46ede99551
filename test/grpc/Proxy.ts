import { Deferred, Effect } from "effect"
import * as Net from "node:net"

export type Mode = "pass" | "refuse" | "silent"

/** A TCP proxy before a server: it passes bytes on, refuses connections, or takes them and says nothing. */
export const make = (url: string) =>
  Effect.gen(function*() {
    const target = { host: new URL(url).hostname, port: Number(new URL(url).port) }
    let mode: Mode = "pass"
    const sockets = new Set<Net.Socket>()
    const listening = yield* Deferred.make<number>()
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const server = Net.createServer((client) => {
          sockets.add(client)
          client.on("error", () => {}).on("close", () => sockets.delete(client))
          if (mode === "refuse") return client.destroy()
          const upstream = Net.connect(target)
          upstream.on("error", () => client.destroy()).on("close", () => client.destroy())
          client.on("close", () => upstream.destroy())
          client.on("data", (data) => mode === "silent" || upstream.write(data))
          upstream.on("data", (data) => mode === "silent" || client.write(data))
        })
        server.listen(0, "127.0.0.1", () =>
          Deferred.unsafeDone(listening, Effect.succeed((server.address() as Net.AddressInfo).port)))
        return server
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          sockets.forEach((socket) =>
            socket.destroy()
          )
        })
    )
    return {
      port: yield* Deferred.await(listening),
      set: (next: Mode) =>
        Effect.sync(() => {
          mode = next
          if (next === "refuse") sockets.forEach((socket) => socket.destroy())
        })
    } as const
  })
