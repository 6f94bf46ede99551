import { Deferred, Effect } from "effect"
import * as Net from "node:net"

/** What the proxy does with bytes and connections. Lost bytes never arrive: their connection stays dead. */
export type Mode =
  | "pass"
  /** Holds bytes until the mode changes. */
  | "stall"
  /** Holds bytes of connections that are accepted from now on, until the mode changes. Older connections pass. */
  | "stall new"
  /** Cuts open connections and closes new ones at once. */
  | "refuse"
  /** Accepts connections and passes nothing. */
  | "silent"
  /** Passes requests and drops responses. */
  | "swallow"
  /** Passes half of the next response, then cuts the connection. */
  | "tear"
  /** Delays all bytes, in both directions. */
  | { readonly delayMillis: number }

interface Pair {
  readonly cut: () => void
  readonly flush: () => void
  /** Drops bytes in both directions. */
  lost: boolean
  /** Drops responses. */
  mute: boolean
}

/** A TCP proxy before the server of a URL. Default port: any free one. */
export const make = (server: string, port = 0) =>
  Effect.gen(function*() {
    let target = new URL(server)
    const pairs = new Set<Pair>()
    const listening = yield* Deferred.make<number>()
    let mode: Mode = "pass"
    let accepted = 0

    const join = (client: Net.Socket) => {
      accepted++
      const isNew = mode === "stall new"
      if (mode === "refuse") return client.destroy()
      const upstream = Net.connect(Number(target.port), target.hostname)
      const held: Array<() => void> = []
      const pair: Pair = {
        lost: false,
        mute: false,
        cut: () => {
          client.destroy()
          upstream.destroy()
        },
        flush: () => held.splice(0).forEach((send) => pair.lost || send())
      }
      pairs.add(pair)
      const pass = (from: Net.Socket, to: Net.Socket, isAnswer: boolean) => {
        let latest = 0
        const write = (data: Buffer) => pair.lost || (isAnswer && pair.mute) || to.write(data)
        const later = (data: Buffer, millis: number) => {
          // keeps the order of the pieces
          const now = performance.now()
          latest = Math.max(latest, now + millis)
          if (latest <= now) write(data)
          else setTimeout(write, latest - now, data)
        }
        from.on("data", (data) => {
          if (mode === "silent") pair.lost = true
          if (mode === "swallow" && isAnswer) pair.mute = true
          if (mode === "stall" || (mode === "stall new" && isNew)) held.push(() => later(data, 0))
          else if (mode === "tear" && isAnswer) {
            to.end(data.subarray(0, Math.ceil(data.length / 2)))
            upstream.destroy()
          } else later(data, typeof mode === "object" ? mode.delayMillis : 0)
        })
        from.on("error", () => {})
        from.on("close", () => {
          pairs.delete(pair)
          if (!to.writableEnded) to.destroy()
        })
      }
      pass(client, upstream, false)
      pass(upstream, client, true)
    }

    const cut = () => pairs.forEach((pair) => pair.cut())

    yield* Effect.acquireRelease(
      Effect.sync(() => {
        const server = Net.createServer(join)
        return server.listen(port, "127.0.0.1", () =>
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
      /** The URL of the server through the proxy. */
      url: url.href,
      port: Number(url.port),
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
      /** Forwards new connections to this server; open connections stay with the old one. */
      lead: (server: string) =>
        Effect.sync(() => {
          target = new URL(server)
        }),
      /** Cuts the open connections. */
      cut: Effect.sync(cut),
      /** Keeps the open connections but passes nothing more on them, as if the other host had vanished. */
      lose: Effect.sync(() => pairs.forEach((pair) => (pair.lost = true))),
      /** Number of accepted connections. */
      accepted: Effect.sync(() => accepted)
    } as const
  })

export type Proxy = Effect.Effect.Success<ReturnType<typeof make>>
