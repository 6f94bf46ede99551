import { Deferred, Effect } from "effect"
import * as Net from "node:net"

/**
 * What happens to bytes: they pass, or they are held until they may pass again; to new connections: they are refused
 * (and those that were open are cut) in the third.
 */
export type Mode = "pass" | "stall" | "refuse"

interface Pair {
  readonly cut: () => void
  readonly flush: () => void
  lost: boolean
}

/** A TCP proxy before the server of a URL. */
export const make = (server: string) =>
  Effect.gen(function*() {
    const target = new URL(server)
    const pairs = new Set<Pair>()
    const listening = yield* Deferred.make<number>()
    let mode: Mode = "pass"
    let accepted = 0

    const join = (client: Net.Socket) => {
      accepted++
      if (mode === "refuse") return client.destroy()
      const upstream = Net.connect(Number(target.port), target.hostname)
      const held: Array<() => void> = []
      const pair: Pair = {
        lost: false,
        cut: () => {
          client.destroy()
          upstream.destroy()
        },
        flush: () => held.splice(0).forEach((send) => pair.lost || send())
      }
      pairs.add(pair)
      const pass = (from: Net.Socket, to: Net.Socket) => {
        from.on("data", (data) => {
          if (pair.lost) return
          if (mode === "stall") held.push(() => to.write(data))
          else to.write(data)
        })
        from.on("error", () => {})
        from.on("close", () => {
          pairs.delete(pair)
          to.destroy()
        })
      }
      pass(client, upstream)
      pass(upstream, client)
    }

    const cut = () => pairs.forEach((pair) => pair.cut())

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const server = Net.createServer(join)
        return server.listen(0, "127.0.0.1", () =>
          Deferred.unsafeDone(listening, Effect.succeed((server.address() as Net.AddressInfo).port)))
      }),
      (server) =>
        Effect.sync(() => {
          server.close()
          cut()
        })
    )

    const url = new URL(server)
    url.hostname = "127.0.0.1"
    url.port = String(yield* Deferred.await(listening))
    return {
      /** The server's URL, by way of the proxy. */
      url: url.href,
      set: (next: Mode) =>
        Effect.sync(() => {
          mode = next
          if (next === "refuse") {
            cut()
          }
          if (next === "pass") {
            pairs.forEach((pair) =>
              pair.flush()
            )
          }
        }),
      /** Ends the connections that are open. */
      cut: Effect.sync(cut),
      /** The connections that are open stay so, and nothing passes them any more: as if the other host had gone. */
      lose: Effect.sync(() => pairs.forEach((pair) => (pair.lost = true))),
      /** Connections taken so far. */
      accepted: Effect.sync(() => accepted)
    } as const
  })
