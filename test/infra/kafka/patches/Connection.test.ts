import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { AddressInfo, Socket } from "node:net"
import { createServer } from "node:net"
import * as Kafka from "../../../../src/infra/kafka/KafkaClient.js"
import * as KafkaProducer from "../../../../src/infra/kafka/KafkaProducer.js"
import * as KafkaTest from "../../../harness/KafkaTest.js"

/** A server that is no Kafka, for the life of the scope. Answers its address. */
const stranger = (onConnect: (socket: Socket) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<readonly [number, () => void]>((resume) => {
        const sockets = new Set<Socket>()
        const server = createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          onConnect(socket)
        })
        server.listen(0, "127.0.0.1", () =>
          resume(Effect.succeed([(server.address() as AddressInfo).port, () => {
            server.close()
            sockets.forEach((socket) => socket.destroy())
          }])))
      }),
      ([, close]) => Effect.sync(close)
    ),
    ([port]) => `127.0.0.1:${port}`
  )

/** Answers the first bytes with these. */
const answering = (text: string) => (socket: Socket) => void socket.once("data", () => socket.write(text, "latin1"))

/** Answers a line of text only. */
const answeringLines = (text: string) => (socket: Socket) =>
  void socket.on("data", (data) => data.includes("\n") && socket.write(text, "latin1"))

const endless = (socket: Socket) => {
  const more = () => {
    while (socket.writable && socket.write("x".repeat(65_536)));
  }
  socket.on("drain", more)
  more()
}

const kinds: ReadonlyArray<readonly [string, (socket: Socket) => void, string]> = [
  ["an HTTP server", answering("HTTP/1.1 400 Bad Request\r\n\r\n"), "answered, but not as Kafka: it is an HTTP server"],
  ["an HTTP server that waits for a line", answeringLines("HTTP/1.1 400 Bad Request\r\n\r\n"), "it is an HTTP server"],
  ["Redis", answeringLines("-ERR unknown command\r\n"), "it is Redis"],
  ["SSH", (socket) => void socket.write("SSH-2.0-OpenSSH_9.6\r\n"), "it is an SSH server"],
  ["PostgreSQL", answering("E\0\0\0\x63SFATAL\0"), "it is PostgreSQL"],
  ["a port for TLS that says so", answering("\x15\x03\x03\0\x02\x02\x46"), "it speaks TLS, and this client does not"],
  ["a port for TLS that hangs up", (socket) => void socket.once("data", () => socket.end()), "is it a port for TLS?"],
  ["a sender without end", endless, "it begins with the bytes 7878787878787878"],
  ["an answer of one byte", answering("\0\0\0\x01\x07"), "answered, but not as Kafka"],
  ["an answer to nothing", answering("\0\0\0\x08\0\0\0\x63\0\0\0\0"), "answered, but not as Kafka"],
  ["silence", () => {}, "took the connection, and did not answer: is it Kafka?"]
]

describe.concurrent("a broker address that is no Kafka", () => {
  for (const [what, onConnect, says] of kinds) {
    it.scopedLive(`${what}: the error says which address, and what it seems to be, within seconds`, () =>
      Effect.gen(function*() {
        const address = yield* stranger(onConnect)
        const error = yield* Effect.flip(Kafka.missingTopics({ brokers: [address], clientId: "test" }, ["any"])).pipe(
          Effect.timeout("10 seconds")
        )
        assert.strictEqual(error._tag, "KafkaUnavailable")
        assert.include(error.message, address)
        assert.include(error.message, says)
      }))
  }

  it.scopedLive("a name that does not resolve is named", () =>
    Effect.gen(function*() {
      const options = { brokers: ["no-such-host.invalid:9092"], clientId: "test" }
      const error = yield* Effect.flip(KafkaProducer.make(options))
      assert.include(error.message, "no-such-host.invalid")
    }))

  it.scopedLive("who waits for an answer can be interrupted at once", () =>
    Effect.gen(function*() {
      const address = yield* stranger(() => {})
      const options = { brokers: [address], clientId: "test" }
      for (
        const open of [
          Effect.asVoid(Kafka.missingTopics(options, ["any"])),
          Effect.scoped(Effect.asVoid(KafkaProducer.make(options)))
        ]
      ) {
        const opening = yield* Effect.fork(open)
        yield* Effect.sleep("200 millis")
        yield* Effect.timeout(Fiber.interrupt(opening), "2500 millis")
      }
    }))

  it.scopedLive("one of a list of addresses is enough, whatever the others are", () =>
    Effect.gen(function*() {
      const others = [
        "127.0.0.1:1",
        yield* stranger(answering("HTTP/1.1 400 Bad Request\r\n\r\n")),
        yield* stranger((socket) => void socket.once("data", () => socket.end()))
      ]
      const options = { brokers: [...others, ...KafkaTest.kafka().brokers], clientId: "test" }
      assert.deepStrictEqual(yield* Kafka.missingTopics(options, ["no-such-topic"]), ["no-such-topic"])
    }))
})
