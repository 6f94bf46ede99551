import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue } from "effect"
import type { AddressInfo, Socket } from "node:net"
import { createServer } from "node:net"
import * as Kafka from "../../../../src/infra/kafka/KafkaClient.js"
import * as KafkaProducer from "../../../../src/infra/kafka/KafkaProducer.js"
import { patch } from "../../../../src/infra/kafka/patches/Connection.js"
import type { Load } from "../../../../src/infra/kafka/patches/Patch.js"
import * as KafkaTest from "../../../harness/KafkaTest.js"
import { contract, logger } from "./Library.js"

/** A server for the life of the scope. Returns its address. */
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

/** Answers the first bytes with this text. */
const answering = (text: string) => (socket: Socket) => void socket.once("data", () => socket.write(text, "latin1"))

/** Answers only after a line of text. */
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
  [
    "a port for TLS that says so",
    answering("\x15\x03\x03\0\x02\x02\x46"),
    "it speaks TLS, and this client does not (KAFKA_TLS=true)"
  ],
  [
    "a port for TLS that hangs up",
    (socket) => void socket.once("data", () => socket.end()),
    "is it a port for TLS (KAFKA_TLS=true)?"
  ],
  ["a sender without end", endless, "it begins with the bytes 7878787878787878"],
  ["an answer of one byte", answering("\0\0\0\x01\x07"), "answered, but not as Kafka"],
  ["an answer to nothing", answering("\0\0\0\x08\0\0\0\x63\0\0\0\0"), "answered, but not as Kafka"],
  ["silence", () => {}, "took the connection, and did not answer: is it Kafka?"]
]

interface Connection {
  bytesNeeded: number
  readonly isConnected: () => boolean
  readonly connect: () => Promise<unknown>
  readonly disconnect: () => Promise<unknown>
  readonly send: (protocol: object) => Promise<string>
  readonly processData: (data: Buffer) => unknown
}

const connectionOf = (load: Load, address: string) => {
  const [host, port] = address.split(":")
  const Connection = load("kafkajs/src/network/connection") as new(options: object) => Connection
  const socketFactory = load("kafkajs/src/network/socketFactory") as () => unknown
  return new Connection({
    host,
    port: Number(port),
    logger,
    socketFactory: socketFactory(),
    requestTimeout: 200,
    connectionTimeout: 1_000
  })
}

/** Sends a request with this body, and returns the text of the answer or the name of the error. */
const ask = (load: Load, connection: Connection, body = Buffer.alloc(0)) => {
  const Encoder = load("kafkajs/src/protocol/encoder") as new() => { readonly writeBytes: (body: Buffer) => object }
  return connection.send({
    request: {
      apiKey: 3,
      apiVersion: 1,
      apiName: "Metadata",
      encode: () => Promise.resolve(new Encoder().writeBytes(body))
    },
    response: { decode: (bytes: Buffer) => Promise.resolve(bytes.toString()), parse: (text: string) => text }
  }).catch(({ name }: Error) => name)
}

/** The answer "yes" to a request. */
const yes = (request: Buffer) => {
  const answer = Buffer.from("\0\0\0\x07\0\0\0\0yes", "latin1")
  request.copy(answer, 4, 8, 12)
  return answer
}

contract(
  "a connection breaks in the middle of an answer: no request gets an answer after the reconnect",
  patch,
  {
    stock: ["KafkaJSConnectionClosedError", "KafkaJSRequestTimeoutError"],
    patched: ["KafkaJSConnectionClosedError", "yes"]
  },
  (load) =>
    Effect.runPromise(Effect.scoped(Effect.gen(function*() {
      let connections = 0
      const address = yield* stranger((socket) => {
        const isFirst = connections++ === 0
        socket.on("data", (data) => isFirst ? socket.end(yes(data).subarray(0, 9)) : socket.write(yes(data)))
      })
      const connection = connectionOf(load, address)
      const answers: Array<string> = []
      for (let n = 0; n < 2; n++) {
        yield* Effect.promise(() => connection.connect())
        answers.push(yield* Effect.promise(() => ask(load, connection)))
      }
      yield* Effect.promise(() => connection.disconnect())
      return answers
    })))
)

contract(
  "a request times out, and the network has not taken all of it: the rest leaves later",
  patch,
  { stock: ["KafkaJSRequestTimeoutError", "all of it"], patched: ["KafkaJSRequestTimeoutError", "a part"] },
  (load) =>
    Effect.runPromise(Effect.scoped(Effect.gen(function*() {
      const body = Buffer.alloc(600_000)
      let server: Socket | undefined
      const connection = connectionOf(load, yield* stranger((socket) => void (server = socket)))
      yield* Effect.promise(() => connection.connect())
      const answer = yield* Effect.promise(() => ask(load, connection, body))
      yield* Effect.promise(() => connection.disconnect())
      let arrived = 0
      yield* Effect.async<void>((resume) => {
        server!.on("data", (data) => (arrived += data.length)).on("close", () => resume(Effect.void))
      })
      return [answer, arrived > body.length ? "all of it" : "a part"]
    })))
)

contract(
  "a request times out: the connection is used again",
  patch,
  { stock: ["KafkaJSRequestTimeoutError", "used again"], patched: ["KafkaJSRequestTimeoutError", "closed"] },
  (load) =>
    Effect.runPromise(Effect.scoped(Effect.gen(function*() {
      const connection = connectionOf(load, yield* stranger(() => {}))
      yield* Effect.promise(() => connection.connect())
      const answer = yield* Effect.promise(() => ask(load, connection))
      const state = connection.isConnected() ? "used again" : "closed"
      yield* Effect.promise(() => connection.disconnect())
      return [answer, state]
    })))
)

contract(
  "bytes that are no answer throw in the listener of the socket",
  patch,
  { stock: "ERR_BUFFER_OUT_OF_BOUNDS", patched: "nothing thrown" },
  (load) => {
    const connection = connectionOf(load, "127.0.0.1:1")
    try {
      connection.processData(Buffer.from([0, 0, 0, 2, 1, 7]))
      return Promise.resolve("nothing thrown")
    } catch (error) {
      return Promise.resolve(String((error as { readonly code?: string }).code))
    }
  }
)

contract(
  "the text of another server is taken for an answer of 1.2 GB, and the connection buffers it",
  patch,
  { stock: true, patched: false },
  (load) => {
    const connection = connectionOf(load, "127.0.0.1:1")
    connection.processData(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"))
    return Promise.resolve(connection.bytesNeeded > 1e9)
  }
)

const missing = (options: Kafka.KafkaOptions, topics: ReadonlyArray<string>) =>
  Kafka.withAdmin(options, (admin) => Kafka.missingTopics(admin, topics))

describe.concurrent("a broker address that is no Kafka", () => {
  for (const [what, onConnect, says] of kinds) {
    it.scopedLive(`${what}: the error names the address and the server within seconds`, () =>
      Effect.gen(function*() {
        const address = yield* stranger(onConnect)
        const error = yield* Effect.flip(missing({ brokers: [address], clientId: "test" }, ["any"])).pipe(
          Effect.timeout("10 seconds")
        )
        assert.strictEqual(error._tag, "KafkaUnavailable")
        assert.include(error.message, address)
        assert.include(error.message, says)
      }))
  }

  it.scopedLive("the error names a host that does not resolve", () =>
    Effect.gen(function*() {
      const options = { brokers: ["no-such-host.invalid:9092"], clientId: "test" }
      const error = yield* Effect.flip(KafkaProducer.make(options))
      assert.include(error.message, "no-such-host.invalid")
    }))

  it.scopedLive("a call that waits for an answer can be interrupted at once", () =>
    Effect.gen(function*() {
      const asked = yield* Queue.unbounded<void>()
      const address = yield* stranger((socket) => void socket.once("data", () => asked.unsafeOffer(undefined)))
      const options = { brokers: [address], clientId: "test" }
      for (
        const open of [
          Effect.asVoid(missing(options, ["any"])),
          Effect.scoped(Effect.asVoid(KafkaProducer.make(options)))
        ]
      ) {
        const opening = yield* Effect.fork(open)
        yield* Queue.take(asked)
        yield* Effect.timeout(Fiber.interrupt(opening), "2500 millis")
      }
    }))

  it.scopedLive("one broker in a list of addresses is enough, whatever the other addresses are", () =>
    Effect.gen(function*() {
      const others = [
        "127.0.0.1:1",
        yield* stranger(answering("HTTP/1.1 400 Bad Request\r\n\r\n")),
        yield* stranger((socket) => void socket.once("data", () => socket.end()))
      ]
      const options = { brokers: [...others, ...KafkaTest.kafka().brokers], clientId: "test" }
      assert.deepStrictEqual(yield* missing(options, ["no-such-topic"]), ["no-such-topic"])
    }))
})
