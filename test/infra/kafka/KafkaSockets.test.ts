import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import type { AddressInfo, Server, Socket } from "node:net"
import { connect, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeTls from "node:tls"
import * as KafkaSockets from "../../../src/infra/kafka/KafkaSockets.js"
import * as Authority from "../../../src/local/Authority.js"
import { eventually } from "../../harness/Eventually.js"

/** More than a receiver takes that does not read, and less than the operating system takes from a sender. */
const bytes = 600_000

const listening = (make: () => Server) =>
  Effect.acquireRelease(
    Effect.async<Server>((resume) => {
      const server = make()
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )
const portOf = (server: Server) => (server.address() as AddressInfo).port

const authority = Authority.make("authority")

/** A TLS server and the settings of its clients. */
const secured = Effect.gen(function*() {
  const { certificate, key } = authority.issue({ names: ["127.0.0.1"] })
  const server = yield* listening(() =>
    NodeTls.createServer({ cert: certificate, key }, (socket) => socket.on("error", () => {}).resume())
  )
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "sockets-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )
  const ca = join(folder, "ca.pem")
  writeFileSync(ca, authority.certificate)
  return { port: portOf(server), tls: { files: { prefix: "KAFKA_TLS", ca } } } as const
})

it.scopedLive.each([["plain"], ["TLS"]])(
  "what waits to be sent on a %s connection is dropped with its client",
  ([kind]) =>
    Effect.gen(function*() {
      const { port, tls } = kind === "TLS"
        ? yield* secured
        : { port: portOf(yield* listening(() => createServer((socket) => socket.resume()))), tls: undefined }
      let link: readonly [Socket, Socket] | undefined
      let arrived = 0
      let closed = false
      // a network between the two that takes nothing more when it is asked to
      const network = yield* listening(() =>
        createServer((from) => {
          const to = connect(port, "127.0.0.1").on("error", () => {})
          link = [from, to]
          from.pipe(to)
          to.pipe(from)
          from.on("error", () => {})
          from.on("close", () => (closed = true))
        })
      )
      const sockets = KafkaSockets.make([`127.0.0.1:${portOf(network)}`], tls)
      yield* Effect.addFinalizer(() => Effect.sync(() => link?.forEach((socket) => socket.destroy())))
      const failures: Array<string> = []
      const socket = yield* Effect.async<Socket>((resume) => {
        const made: Socket = sockets.factory({
          host: "127.0.0.1",
          port: portOf(network),
          ssl: tls === undefined ? undefined as never : {},
          onConnect: () => resume(Effect.succeed(made))
        }).on("error", ({ message }: Error) => failures.push(message)) as Socket
      })
      const [from, to] = link!
      from.unpipe(to)
      from.on("data", (data) => (arrived += data.length)).pause()
      // the operating system has all of it
      yield* Effect.async<void>((resume) => void socket.write(Buffer.alloc(bytes, 1), () => resume(Effect.void)))
      sockets.leave()
      assert.deepStrictEqual(failures, [`127.0.0.1:${portOf(network)}: the client was left`])
      assert.throws(() => sockets.factory({ host: "127.0.0.1", port, ssl: undefined as never, onConnect: () => {} }))
      from.resume()
      yield* Effect.sync(() => assert.isTrue(closed)).pipe(eventually())
      assert.isBelow(arrived, bytes)
    })
)
