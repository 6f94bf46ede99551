import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Dgram from "node:dgram"
import * as Dns from "node:dns"
import * as PaymentsClient from "../../../src/grpc/PaymentsClient.js"
import { freePort } from "../../harness/FreePort.js"

/** Replaces the name server by one that never answers and counts its questions. */
const silentNameServer = Effect.acquireRelease(
  Effect.async<{ readonly socket: Dgram.Socket; readonly before: ReadonlyArray<string>; asked: number }>((resume) => {
    const socket = Dgram.createSocket("udp4")
    const server = { socket, before: Dns.getServers(), asked: 0 }
    socket.on("message", () => void server.asked++)
    socket.bind(0, "127.0.0.1", () => {
      Dns.setServers([`127.0.0.1:${socket.address().port}`])
      resume(Effect.succeed(server))
    })
  }),
  ({ before, socket }) =>
    Effect.sync(() => {
      Dns.setServers(before)
      socket.close()
    })
)

describe("the gRPC client", () => {
  it.scopedLive("asks the name server for no service configuration; an error names the server and the reason", () =>
    Effect.gen(function*() {
      const nameServer = yield* silentNameServer
      const port = yield* freePort
      const client = yield* PaymentsClient.make({ host: "localhost", port })
      const error = yield* Effect.flip(client.updatePaymentStatus(1n, "COMPLETED"))
      assert.strictEqual(error.code, "UNAVAILABLE")
      assert.match(error.message, new RegExp(`^UpdatePaymentStatus at localhost:${port}: UNAVAILABLE: .*ECONNREFUSED`))
      assert.notMatch(error.message, /Resolution note/)
      assert.strictEqual(nameServer.asked, 0)
    }))
})
