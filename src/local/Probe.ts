import { Effect } from "effect"
import * as Net from "node:net"
import * as Tls from "node:tls"
import type { Part } from "./LocalStackError.js"

/** Sends `request` and returns the verdict of `read` on the reply; false without a reply within a second. */
const ask = (
  port: number,
  request: Buffer,
  read: (reply: Buffer) => boolean | undefined,
  encrypted = false
): Effect.Effect<boolean> =>
  Effect.acquireUseRelease(
    Effect.sync(() =>
      encrypted
        // no secret is sent, and the server is our child
        ? Tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false })
        : Net.connect({ host: "127.0.0.1", port })
    ),
    (socket) =>
      Effect.async<boolean>((resume) => {
        let reply = Buffer.alloc(0)
        socket.on(encrypted ? "secureConnect" : "connect", () => socket.write(request))
        socket.on("data", (chunk) => {
          reply = Buffer.concat([reply, chunk])
          const answer = read(reply)
          if (answer !== undefined) resume(Effect.succeed(answer))
        })
        socket.on("error", () => resume(Effect.succeed(false)))
        socket.on("close", () => resume(Effect.succeed(false)))
      }),
    (socket) => Effect.sync(() => socket.destroy())
  ).pipe(
    Effect.timeoutTo({ duration: "1 second", onSuccess: (answer) => answer, onTimeout: () => false })
  )

const withLength = (body: Buffer, counted: number) => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length + counted)
  return Buffer.concat([length, body])
}

/**
 * Protocol 3.0 start-up of user payments. The reply `R` asks for the password, and an error 28000 for TLS: the server accepts
 * connections.
 */
const postgresStartup = withLength(
  Buffer.from("\0\x03\0\0user\0payments\0database\0payments\0\0", "latin1"),
  4
)

/** Metadata request version 1 for no topic, correlation id 1, no client id. */
const kafkaMetadata = withLength(Buffer.from([0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0]), 0)

/** The same, in plaintext, or else over TLS: the local stack starts servers with one or the other. */
const askEither = (port: number, request: Buffer, read: (reply: Buffer) => boolean | undefined) =>
  Effect.flatMap(
    ask(port, request, read),
    (answered) => answered ? Effect.succeed(true) : ask(port, request, read, true)
  )

/** True when the server on this port of 127.0.0.1 answers in its own protocol within a second or two. */
export const answers: Record<Part, (port: number) => Effect.Effect<boolean>> = {
  postgres: (port) =>
    ask(port, postgresStartup, (reply) => {
      const text = reply.toString("latin1")
      return text.startsWith("R") || (text.startsWith("E") && text.includes("\0C28000\0"))
    }),
  redis: (port) =>
    askEither(
      port,
      Buffer.from("PING\r\n"),
      (reply) => reply.includes("\n") ? reply.includes("+PONG") : undefined
    ),
  // the number of brokers follows length and correlation id
  kafka: (port) => askEither(port, kafkaMetadata, (reply) => reply.length < 12 ? undefined : reply.readInt32BE(8) > 0)
}
