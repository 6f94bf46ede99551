import { Deferred, Effect } from "effect"
import * as Net from "node:net"

/** What happens to the bytes, and to those who connect. What was lost on a connection never comes: it stays dead. */
export type Mode =
  | "pass"
  /** Bytes are held until they may pass again. */
  | "stall"
  /** Open connections are cut, new ones are ended at once. */
  | "refuse"
  /** Connections are taken, and nothing passes. */
  | "silent"
  /** What is asked arrives; the answers are lost. */
  | "swallow"
  /** Half of the next answer passes, then the connection is cut. */
  | "tear"
  /** Every piece arrives so much later, both ways. */
  | { readonly delayMillis: number }

interface Pair {
  readonly cut: () => void
  readonly flush: () => void
  /** Neither way leads anywhere any more. */
  lost: boolean
  /** Nothing comes back any more. */
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
          // never before what came before
          const now = performance.now()
          latest = Math.max(latest, now + millis)
          if (latest <= now) write(data)
          else setTimeout(write, latest - now, data)
        }
        from.on("data", (data) => {
          if (mode === "silent") pair.lost = true
          if (mode === "swallow" && isAnswer) pair.mute = true
          if (mode === "stall") held.push(() => later(data, 0))
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
      /** The server's URL, by way of the proxy. */
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
      /** From now on the proxy stands before this server; open connections stay where they are. */
      lead: (server: string) =>
        Effect.sync(() => {
          target = new URL(server)
        }),
      /** Ends the connections that are open. */
      cut: Effect.sync(cut),
      /** The connections that are open stay so, and nothing passes them any more: as if the other host had gone. */
      lose: Effect.sync(() => pairs.forEach((pair) => (pair.lost = true))),
      /** Connections taken so far. */
      accepted: Effect.sync(() => accepted)
    } as const
  })

export type Proxy = Effect.Effect.Success<ReturnType<typeof make>>
