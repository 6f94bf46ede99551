import { Effect } from "effect"
import * as Net from "node:net"
import { freePort } from "./FreePort.js"

const refusal = Buffer.from("SERROR\0C08P01\0Munsupported startup parameter: options\0\0", "latin1")

/**
 * A proxy that refuses connections like PgBouncer: those with the start-up parameter `options`, and TLS. It reports false
 * backend process ids, as every pooler does.
 */
export const make = Effect.fnUntraced(function*(server: string) {
  const target = new URL(server)
  const { hostname, port: behind } = target
  const port = yield* freePort
  const join = (client: Net.Socket) => {
    const upstream = Net.connect(Number(behind), hostname)
    let started = false
    client.on("data", (bytes: Buffer) => {
      if (started) return void upstream.write(bytes)
      if (bytes.readInt32BE(4) === 80_877_103) return void client.write("N")
      started = true
      if (!bytes.includes("\0options\0")) return void upstream.write(bytes)
      const length = Buffer.alloc(4)
      length.writeInt32BE(refusal.length + 4)
      client.end(Buffer.concat([Buffer.from("E"), length, refusal]))
    })
    upstream.on("data", (bytes: Buffer) => {
      // BackendKeyData arrives in one piece with its neighbours
      const at = bytes.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]))
      if (at !== -1 && bytes.length >= at + 9) bytes.writeInt32BE(1_000_000_007, at + 5)
      client.write(bytes)
    })
    for (const [one, other] of [[client, upstream], [upstream, client]] as const) {
      one.on("error", () => {}).on("close", () => other.destroy())
    }
  }
  yield* Effect.acquireRelease(
    Effect.async<Net.Server>((resume) => {
      const server = Net.createServer(join)
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )
  target.host = `127.0.0.1:${port}`
  return target.href
})
