import { assert, describe, it } from "@effect/vitest"
import { Effect, Either } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import type { AddressInfo } from "node:net"
import { createServer as plainServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { ConnectionOptions, TlsOptions } from "node:tls"
import * as NodeTls from "node:tls"
import * as PostgresFault from "../../../src/infra/postgres/PostgresFault.js"
import * as Tls from "../../../src/infra/tls/Tls.js"
import * as Authority from "../../../src/local/Authority.js"

const [authority, stranger] = [Authority.make("authority"), Authority.make("authority")]
const day = 86_400_000
const [yesterday, tomorrow] = [new Date(new Date().getTime() - day), new Date(new Date().getTime() + day)]
const longAgo = new Date(yesterday.getTime() - day)
const own = (names: readonly [string, ...ReadonlyArray<string>]) => {
  const { certificate, key } = authority.issue({ names })
  return { cert: certificate, key }
}
const pairOf = ({ certificate, key }: Authority.Identity) => ({ cert: certificate, key })

/** What a client says of a handshake with a server on loopback: undefined when both sides accepted each other. */
const handshake = (server: TlsOptions | "plain", client: ConnectionOptions) =>
  Effect.async<string | undefined>((resume) => {
    const listener = server === "plain"
      ? plainServer((socket) => socket.on("error", () => {}).resume().end("I speak no TLS\n"))
      : NodeTls.createServer(server, (socket) => socket.on("error", () => {}).end("welcome"))
    listener.on("tlsClientError", () => {})
    listener.listen(0, "127.0.0.1", () => {
      const { port } = listener.address() as AddressInfo
      const end = (found: string | undefined) => {
        socket.destroy()
        listener.close()
        resume(Effect.succeed(found))
      }
      // a server that refuses a client's certificate says so after the client's side of the handshake
      const socket = NodeTls.connect({ host: "127.0.0.1", port, ...client }).on("data", () => end(undefined))
      socket.on("close", () => end("closed without a word"))
      socket.on("error", (error) => end(Tls.explain(error) ?? `not explained: ${error.message}`))
    })
  })

const trusting = { ca: authority.certificate, servername: "kafka.test" }

describe("Tls", () => {
  it.effect.each(
    [
      ["right", pairOf(authority.issue({ names: ["kafka.test"] })), trusting, undefined],
      ["an address", own(["kafka.test", "127.0.0.1", "::1"]), { ca: authority.certificate }, undefined],
      ["unknown authority", pairOf(stranger.issue({ names: ["kafka.test"] })), trusting, "not trusted"],
      [
        "expired",
        pairOf(authority.issue({ names: ["kafka.test"], from: longAgo, until: yesterday })),
        trusting,
        "expired"
      ],
      ["not yet valid", pairOf(authority.issue({ names: ["kafka.test"], from: tomorrow })), trusting, "not valid yet"],
      ["another name", own(["other.test"]), trusting, "another name than kafka.test (DNS:other.test)"],
      ["no TLS", "plain" as const, trusting, "does not speak TLS"],
      [
        "no client certificate",
        { ...own(["kafka.test"]), ca: authority.certificate, requestCert: true },
        trusting,
        "demands a client certificate"
      ],
      [
        "a known client certificate",
        { ...own(["kafka.test"]), ca: authority.certificate, requestCert: true },
        { ...trusting, ...own(["me"]) },
        undefined
      ]
    ] as const
  )("a handshake is explained: %s", ([, server, client, expected]) =>
    Effect.gen(function*() {
      const found = yield* handshake(server as TlsOptions | "plain", client)
      if (expected === undefined) assert.isUndefined(found)
      else assert.include(found, expected)
    }))

  it("an alert has the same meaning under the code of newer OpenSSL versions, also for PostgreSQL", () => {
    const error = Object.assign(new Error("alert"), { code: "ERR_SSL_SSL/TLS_ALERT_CERTIFICATE_EXPIRED" })
    assert.strictEqual(
      Tls.explain(error),
      "our client certificate has expired (ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED)"
    )
    assert.strictEqual(Tls.faultOf(error), "client certificate")
    assert.strictEqual(PostgresFault.of(error), "refused")
  })

  it.effect("files are read at each call, and a useless file is named with its variable", () =>
    Effect.gen(function*() {
      const folder = mkdtempSync(join(tmpdir(), "tls-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
      const file = (name: string, content: string) => {
        writeFileSync(join(folder, name), content)
        return join(folder, name)
      }
      const [one, other] = [authority.issue({ names: ["one"] }), authority.issue({ names: ["other"] })]
      const files = {
        prefix: "KAFKA_TLS",
        ca: file("ca.pem", authority.certificate),
        cert: file("cert.pem", one.certificate),
        key: file("key.pem", one.key)
      }
      const loaded = yield* Tls.load(files)
      assert.strictEqual(String(loaded.cert), one.certificate)

      const problem = Effect.map(
        Effect.either(Tls.load(files)),
        Either.match({ onLeft: ({ message }) => message, onRight: () => "none" })
      )
      file("cert.pem", other.certificate)
      assert.match(yield* problem, /^KAFKA_TLS_KEY names .*key.pem, which is not the key of the certificate/)
      file("key.pem", other.key)
      assert.strictEqual(String((yield* Tls.load(files)).key), other.key)
      file("ca.pem", "nothing")
      assert.match(yield* problem, /^KAFKA_TLS_CA names .*ca.pem, which has no certificate in PEM/)
      rmSync(files.ca)
      assert.match(yield* problem, /^KAFKA_TLS_CA names a file that cannot be read: ENOENT/)
    }).pipe(Effect.scoped))
})
