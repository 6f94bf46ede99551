import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import type { AddressInfo } from "node:net"
import { createServer } from "node:net"
import * as KafkaProducer from "../../src/infra/KafkaProducer.js"

/** A server that answers everything with an answer of one byte, which has no room for the number of its request. */
const stranger = Effect.acquireRelease(
  Effect.async<readonly [number, () => void]>((resume) => {
    const sockets = new Set<{ readonly destroy: () => unknown }>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => {}).on("data", () => socket.write(Buffer.of(0, 0, 0, 1, 7)))
    })
    server.listen(0, "127.0.0.1", () =>
      resume(Effect.succeed([(server.address() as AddressInfo).port, () => {
        server.close()
        sockets.forEach((socket) => socket.destroy())
      }])))
  }),
  ([, close]) => Effect.sync(close)
)

it.scopedLive("a server that is no Kafka is a broker that is not available, and ends no process", () =>
  Effect.gen(function*() {
    const [port] = yield* stranger
    const error = yield* Effect.flip(KafkaProducer.make({ brokers: [`127.0.0.1:${port}`], clientId: "test" }))
    assert.strictEqual(error._tag, "KafkaUnavailable")
  }))
