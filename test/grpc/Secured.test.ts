import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, LogLevel, Option, Redacted } from "effect"
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from "jose"
import type { webcrypto } from "node:crypto"
import { randomBytes } from "node:crypto"
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import * as NodeHttp from "node:http"
import * as Net from "node:net"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeTls from "node:tls"
import { pathToFileURL } from "node:url"
import { scopes } from "../../src/domain/Scope.js"
import type { GrpcCallError, PaymentsClientOptions } from "../../src/grpc/PaymentsClient.js"
import * as PaymentsClient from "../../src/grpc/PaymentsClient.js"
import * as TokenFile from "../../src/infra/auth/TokenFile.js"
import * as Certificates from "../../src/infra/grpc/auth/Certificates.js"
import * as Jwt from "../../src/infra/grpc/auth/Jwt.js"
import * as Tokens from "../../src/infra/grpc/auth/Tokens.js"
import type { TlsServerFiles } from "../../src/infra/tls/TlsServer.js"
import * as Authority from "../../src/local/Authority.js"
import { until } from "../harness/Eventually.js"
import * as PgTest from "../harness/PgTest.js"
import * as Harness from "./Harness.js"

const live = Harness.services.pipe(Layer.provideMerge(PgTest.layer))

const authority = Authority.make("test authority")
const stranger = Authority.make("another authority")
const yesterday = new Date(Date.now() - 86_400_000)
const longAgo = new Date(Date.now() - 400 * 86_400_000)

/** A folder for the life of the scope. `file` replaces a file at once, as careful tools do. */
const folder = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "grpc-tls-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  ),
  (path) => ({
    file: (name: string, content: string) => {
      writeFileSync(join(path, `${name}.new`), content)
      renameSync(join(path, `${name}.new`), join(path, name))
      return join(path, name)
    }
  })
)

/** Files of a server with this certificate. */
const filesOf = (identity: Authority.Identity, clientCa?: string) =>
  Effect.map(folder, ({ file }): TlsServerFiles & { readonly replace: typeof file } => ({
    prefix: "GRPC_TLS",
    cert: file("cert.pem", identity.certificate),
    key: file("key.pem", identity.key),
    clientCa: clientCa === undefined ? undefined : file("ca.pem", clientCa),
    replace: file
  }))

const here = () => authority.issue({ names: ["127.0.0.1", "localhost"] })
const trusting = (identity?: Authority.Identity): PaymentsClientOptions => ({
  deadline: "20 seconds",
  tls: {
    context: {
      ca: authority.certificate,
      ...(identity === undefined ? {} : { cert: identity.certificate, key: identity.key })
    }
  }
})
const withToken = (token: string, options: PaymentsClientOptions = trusting()): PaymentsClientOptions => ({
  ...options,
  token: Redacted.make(token)
})

/** Code, reason and metadata of the refusal of a call; `OK` when it succeeds. */
const outcome = <A, R>(call: Effect.Effect<A, GrpcCallError, R>) =>
  Effect.match(call, {
    onSuccess: (): ReadonlyArray<unknown> => ["OK"],
    onFailure: ({ code, metadata, reason }) => [code, reason, metadata]
  })
const clientOf = (port: number, options: PaymentsClientOptions) =>
  PaymentsClient.make({ host: "127.0.0.1", port }, { retries: false, ...options })

/** The serial number of the certificate that a new connection gets. */
const serial = (port: number) =>
  Effect.async<string>((resume) => {
    const socket = NodeTls.connect(
      { port, host: "127.0.0.1", ca: authority.certificate, ALPNProtocols: ["h2"] },
      () => {
        resume(Effect.succeed(socket.getPeerCertificate().serialNumber))
        socket.destroy()
      }
    ).on("error", (error) => resume(Effect.succeed(error.message)))
  })

layer(live, { excludeTestServices: true })("gRPC, encrypted and authenticated", (it) => {
  it.scoped("a failed handshake is explained in plain words", () =>
    Effect.gen(function*() {
      const me = authority.issue({ names: ["me"] })
      const plain = yield* Harness.start()
      const secure = yield* Harness.start({ tls: yield* filesOf(here()) }, trusting())
      yield* secure.client.getPing
      const otherName = yield* Harness.start({ tls: yield* filesOf(authority.issue({ names: ["other.test"] })) })
      const expired = yield* Harness.start({
        tls: yield* filesOf(authority.issue({ names: ["127.0.0.1"], from: longAgo, until: yesterday }))
      })
      const mutual = yield* Harness.start({ tls: yield* filesOf(here(), authority.certificate) }, trusting(me))
      yield* mutual.client.getPing
      const distrusting = { tls: { context: { ca: stranger.certificate } } }
      for (
        const [port, options, expected] of [
          [secure.port, distrusting, /an authority that is not trusted signed the server's certificate/],
          [otherName.port, trusting(), /the server's certificate is for another name/],
          [expired.port, trusting(), /the server's certificate has expired/],
          [plain.port, trusting(), /the server does not speak TLS at this port/],
          [secure.port, {}, /the server closed it at once: it may speak TLS at this port/],
          [mutual.port, trusting(), /the server demands a client certificate/],
          [mutual.port, trusting(stranger.issue({ names: ["me"] })), /it may refuse our client certificate/]
        ] as const
      ) {
        const client = yield* clientOf(port, options)
        const error = yield* Effect.flip(client.getPing)
        assert.strictEqual(error.code, "UNAVAILABLE")
        assert.match(error.details, expected)
      }
      const named = yield* clientOf(otherName.port, { tls: { ...trusting().tls!, serverName: "other.test" } })
      yield* named.getPing
    }))

  it.scoped("a certificate that is renewed under load costs no call; new connections get the new one", () =>
    Effect.gen(function*() {
      const first = here()
      const files = yield* filesOf(first)
      const { client, port } = yield* Harness.start({ tls: { ...files, every: "100 millis" } }, trusting())
      const before = yield* serial(port)
      let calls = 0
      const count = Effect.sync(() => calls++)
      const load = yield* Effect.all([
        Effect.forever(Effect.zipRight(client.getPing, count)),
        Effect.forever(Effect.delay(
          Effect.scoped(Effect.flatMap(clientOf(port, trusting()), ({ getPing }) => getPing)),
          "20 millis"
        ))
      ], { concurrency: "unbounded" }).pipe(Effect.forkScoped)
      const next = here()
      // one file is new, the other is old: both stay in use as they were
      files.replace("key.pem", next.key)
      const seen = calls
      yield* until(Effect.sync(() => calls), (now) => now > seen + 20)
      assert.strictEqual(yield* serial(port), before)
      files.replace("cert.pem", next.certificate)
      yield* until(serial(port), (now) => now !== before)
      const renewed = calls
      yield* until(Effect.sync(() => calls), (now) => now > renewed + 20)
      assert.isTrue(Option.isNone(yield* Fiber.poll(load)))
    }))

  it.scoped("tokens: the scopes of each call, and a token that is revoked", () =>
    Effect.gen(function*() {
      const logged: Array<string> = []
      const { file } = yield* folder
      const [orders, reader] = [TokenFile.create("orders", scopes), TokenFile.create("dashboard", ["payments:read"])]
      const tokensFile = file("tokens", `# callers\n${orders.line}\n\n${reader.line}\n`)
      const capture = Logger.make(({ cause, message }) => void logged.push(String(message) + String(cause)))
      yield* Effect.gen(function*() {
        const authenticator = yield* Tokens.make({
          file: tokensFile,
          variable: "GRPC_TOKENS_FILE",
          scopes,
          every: "20 millis"
        })
        const { client, port } = yield* Harness.start(
          { tls: yield* filesOf(here()), access: { authenticator } },
          trusting()
        )
        const [writer, looker, liar] = yield* Effect.all([
          clientOf(port, withToken(orders.token)),
          clientOf(port, withToken(reader.token)),
          clientOf(port, withToken("pay_not-a-token-of-this-server"))
        ])
        yield* Harness.reserve(301n)
        yield* client.getPing
        assert.deepStrictEqual((yield* outcome(client.getPayment(301n))).slice(0, 2), [
          "UNAUTHENTICATED",
          "NO_CREDENTIAL"
        ])
        for (const call of [liar.getPayment(301n), liar.updatePaymentStatus(301n, "FAILED")]) {
          assert.deepStrictEqual((yield* outcome(call)).slice(0, 2), ["UNAUTHENTICATED", "BAD_CREDENTIAL"])
        }
        assert.deepStrictEqual(yield* outcome(looker.updatePaymentStatus(301n, "FAILED")), [
          "PERMISSION_DENIED",
          "MISSING_SCOPE",
          { scope: "payments:settle" }
        ])
        assert.strictEqual((yield* looker.getPayment(301n)).status, "CREATED")
        yield* writer.updatePaymentStatus(301n, "COMPLETED")
        assert.deepStrictEqual((yield* looker.getPayment(301n)).settledBy, Option.some("orders"))
        // the second caller changes nothing
        yield* writer.updatePaymentStatus(301n, "COMPLETED")

        file("tokens", orders.line)
        yield* until(outcome(looker.getPayment(301n)), ([code]) => code !== "OK")
        assert.deepStrictEqual((yield* outcome(looker.getPayment(301n))).slice(0, 2), [
          "UNAUTHENTICATED",
          "BAD_CREDENTIAL"
        ])
        yield* writer.getPayment(301n)
        // a file with a mistake changes nothing
        file("tokens", `${orders.token} payments:settle`)
        yield* until(Effect.sync(() => logged), (lines) => lines.some((line) => line.includes("whose line 1")))
        yield* writer.getPayment(301n)
      }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, capture)), Logger.withMinimumLogLevel(LogLevel.All))
      assert.isTrue(logged.some((line) => line.includes("call refused")))
      for (const token of [orders.token, reader.token, "not-a-token"]) assert.notInclude(logged.join("\n"), token)
    }))

  it.scoped("JWT: signature, issuer, audience, expiry, scopes, and keys that are replaced", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.promise(() => Promise.all([generateKeyPair("ES256"), generateKeyPair("RS256")]))
      const keySet = (key: webcrypto.CryptoKey, alg: string) =>
        Effect.map(Effect.promise(() => exportJWK(key)), (jwk) => JSON.stringify({ keys: [{ ...jwk, alg, kid: alg }] }))
      const sign = (claims: object = {}, key: webcrypto.CryptoKey | Uint8Array = one.privateKey, alg = "ES256") =>
        Effect.promise(() =>
          new SignJWT({
            iss: "https://issuer.test/",
            aud: "payments",
            sub: "orders",
            exp: Math.floor(Date.now() / 1_000) + 60,
            scope: "payments:read openid",
            ...claims
          }).setProtectedHeader({ alg, kid: alg }).sign(key as webcrypto.CryptoKey)
        )
      const { file } = yield* folder
      const keys = file("keys", yield* keySet(one.publicKey, "ES256"))
      const options = { variable: "GRPC_JWKS_URL", issuer: "https://issuer.test/", audience: "payments" }
      const authenticator = yield* Jwt.make({ ...options, keys: pathToFileURL(keys), every: "20 millis" })
      const { port } = yield* Harness.start({ access: { authenticator } })
      yield* Harness.reserve(311n)
      const get = (token: string, at = port) =>
        Effect.scoped(
          Effect.flatMap(clientOf(at, withToken(token, {})), ({ getPayment }) =>
            Effect.match(getPayment(311n), {
              onSuccess: () => "OK",
              onFailure: ({ code, details }) => `${code} ${details}`
            }))
        )
      const good = yield* sign()
      assert.strictEqual(yield* get(good), "OK")
      assert.strictEqual(yield* get(yield* sign({ scope: undefined, scp: ["payments:read"] })), "OK")
      const past = Math.floor(Date.now() / 1_000) - 60
      const secret = randomBytes(32)
      for (
        const [token, expected] of [
          [yield* sign({ exp: past }), /^UNAUTHENTICATED the token has expired/],
          [yield* sign({ exp: undefined }), /^UNAUTHENTICATED the claim exp of the token is missing/],
          [yield* sign({ iss: "https://other.test/" }), /^UNAUTHENTICATED the token is not from https:\/\/issuer.test/],
          [yield* sign({ aud: "orders" }), /^UNAUTHENTICATED the token is not for payments/],
          [yield* sign({}, two.privateKey, "RS256"), /^UNAUTHENTICATED the token is signed with a key that its issuer/],
          [yield* sign({}, secret, "HS256"), /^UNAUTHENTICATED the algorithm of the token is not allowed/],
          [new UnsecuredJWT({ sub: "orders" }).encode(), /^UNAUTHENTICATED the (token is no JWT|algorithm)/],
          ["a-token-that-is-no-jwt", /^UNAUTHENTICATED the token is no JWT/],
          [`${good.slice(0, -8)}AAAAAAAA`, /^UNAUTHENTICATED the signature of the token is wrong/],
          [yield* sign({ sub: "two\nlines" }), /^UNAUTHENTICATED the subject of the token is not a name/],
          [yield* sign({ scope: "openid" }), /^PERMISSION_DENIED orders may not call GetPayment/]
        ] as const
      ) {
        assert.match(yield* get(token), expected)
      }
      file("keys", yield* keySet(two.publicKey, "RS256"))
      yield* until(get(good), (answer) => answer.startsWith("UNAUTHENTICATED the token is signed with a key"))
      assert.strictEqual(yield* get(yield* sign({}, two.privateKey, "RS256")), "OK")

      // over HTTP: the server starts with the keys, and goes on with them while the issuer is away
      let answer: string | undefined
      let away: string | undefined
      const issuer = yield* Effect.acquireRelease(
        Effect.async<NodeHttp.Server>((resume) => {
          const server = NodeHttp.createServer((_, response) => {
            response.writeHead(answer === undefined ? 500 : 200, { "content-type": "application/json" }).end(answer)
          }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const url = new URL(`http://127.0.0.1:${(issuer.address() as AddressInfo).port}/`)
      const byUrl = Jwt.make({
        ...options,
        keys: url,
        every: "20 millis",
        onLoad: (failure) => void (away = failure?.message)
      })
      const early = yield* Effect.flip(byUrl)
      assert.deepInclude(early, { _tag: "KeysUnavailable", waitsFor: "issuer" })
      assert.match(early.message, /^GRPC_JWKS_URL gives no keys: Expected 200 OK/)
      answer = yield* keySet(one.publicKey, "ES256")
      const remote = yield* Harness.start({ access: { authenticator: yield* byUrl } })
      answer = undefined
      yield* until(Effect.sync(() => away), (now) => now !== undefined)
      assert.strictEqual(yield* get(good, remote.port), "OK")
      const byTwo = yield* sign({}, two.privateKey, "RS256")
      assert.match(yield* get(byTwo, remote.port), /^UNAVAILABLE the keys of the issuer/)
      answer = yield* keySet(two.publicKey, "RS256")
      yield* until(get(byTwo, remote.port), (now) => now === "OK")
      assert.isUndefined(away)
      assert.match(yield* get(good, remote.port), /^UNAUTHENTICATED the token is signed with a key that its issuer/)
    }))

  it.scoped("client certificates: the names that are allowed, with their scopes", () =>
    Effect.gen(function*() {
      const allowed = Certificates.names(scopes)(
        "orders.test=payments:read+payments:settle, spiffe://test/dashboard=payments:read"
      )
      const authenticator = Certificates.make(Option.getOrThrow(Option.getRight(allowed)))
      const tls = yield* filesOf(here(), authority.certificate)
      const { port } = yield* Harness.start({ tls, access: { authenticator } })
      yield* Harness.reserve(321n)
      const as = (...names: readonly [string, ...ReadonlyArray<string>]) =>
        clientOf(port, trusting(authority.issue({ names })))
      const orders = yield* as("shop", "orders.test")
      const dashboard = yield* as("spiffe://test/dashboard")
      const unknown = yield* as("unknown.test")
      yield* unknown.getPing
      assert.deepStrictEqual((yield* outcome(unknown.getPayment(321n))).slice(0, 2), [
        "UNAUTHENTICATED",
        "BAD_CREDENTIAL"
      ])
      assert.strictEqual((yield* outcome(dashboard.updatePaymentStatus(321n, "FAILED")))[0], "PERMISSION_DENIED")
      yield* orders.updatePaymentStatus(321n, "FAILED")
      assert.deepStrictEqual((yield* dashboard.getPayment(321n)).settledBy, Option.some("orders.test"))
    }))

  it.scoped("callers in one group are stored each with its payment, and a call without a name stores none", () =>
    Effect.gen(function*() {
      const { file } = yield* folder
      const tokens = ["orders", "backoffice"].map((name) => TokenFile.create(name, scopes))
      const tokensFile = file("tokens", tokens.map(({ line }) => line).join("\n"))
      const authenticator = yield* Tokens.make({ file: tokensFile, variable: "GRPC_TOKENS_FILE", scopes })
      const { port } = yield* Harness.start({ access: { authenticator } })
      const open = yield* Harness.start()
      const clients = [
        ...(yield* Effect.forEach(tokens, ({ token }) => clientOf(port, withToken(token, {})))),
        open.client
      ]
      const orders = Array.from({ length: 30 }, (_, i) => BigInt(3_300 + i))
      yield* Effect.forEach(orders, Harness.reserve)
      yield* Effect.forEach(orders, (order, i) => clients[i % 3]!.updatePaymentStatus(order, "COMPLETED"), {
        concurrency: "unbounded"
      })
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql<{ readonly settled_by: string | null }>`
        SELECT settled_by FROM payment WHERE order_id BETWEEN 3300 AND 3329 ORDER BY order_id
      `
      assert.deepStrictEqual(
        rows.map(({ settled_by }) => settled_by),
        orders.map((_, i) => ["orders", "backoffice", null][i % 3]!)
      )
    }))

  it.scoped("calls a second: a caller above the limit gets a pause to wait, and others are served", () =>
    Effect.gen(function*() {
      const { file } = yield* folder
      const [greedy, modest] = [TokenFile.create("greedy", scopes), TokenFile.create("modest", scopes)]
      const tokensFile = file("tokens", `${greedy.line}\n${modest.line}`)
      const authenticator = yield* Tokens.make({ file: tokensFile, variable: "GRPC_TOKENS_FILE", scopes })
      const { port } = yield* Harness.start({ access: { authenticator, callsPerSecond: 20 } })
      yield* Harness.reserve(331n)
      const [one, other] = yield* Effect.all([
        clientOf(port, withToken(greedy.token, {})),
        clientOf(port, withToken(modest.token, {}))
      ])
      yield* other.getPayment(331n)
      const answers = yield* Effect.forEach(Array.from({ length: 60 }), () => outcome(one.getPayment(331n)), {
        concurrency: "unbounded"
      })
      const refused = answers.filter(([code]) => code !== "OK")
      assert.isAtLeast(refused.length, 20)
      assert.deepStrictEqual(refused[0], ["RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED", { calls_per_second: "20" }])
      yield* other.getPayment(331n)
      yield* until(outcome(one.getPayment(331n)), ([code]) => code === "OK", "5 seconds")

      // callers without a name: by their address, and the pause is in the trailers
      const open = yield* Harness.start({ access: { callsPerSecond: 1 } })
      yield* open.client.getPing
      const details = yield* Harness.detailsOf(open.address, "GetPing", new Uint8Array())
      assert.include(details.toString("latin1"), "type.googleapis.com/google.rpc.RetryInfo")
    }))

  it.effect("a token is never sent without TLS to another machine", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        PaymentsClient.make({ host: "payments.test", port: 1 }, withToken("pay_secret-token-text", {}))
      )
      assert.strictEqual(error._tag, "TokenUnprotected")
      assert.include(error.message, "GRPC_TLS")
      assert.notInclude(error.message, "secret-token")
      yield* PaymentsClient.make({ host: "payments.test", port: 1 }, withToken("pay_secret-token-text"))
    }).pipe(Effect.scoped))

  it.scoped("hostile handshakes end within the limit, and others are served meanwhile", () =>
    Effect.gen(function*() {
      const { client, port } = yield* Harness.start({ tls: yield* filesOf(here()) }, trusting())
      yield* client.getPing
      const sockets = new Set<Net.Socket>()
      const timers = new Set<NodeJS.Timeout>()
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          sockets.forEach((socket) => socket.destroy())
          timers.forEach(clearInterval)
        })
      )
      let connected = 0
      const open = (said: Buffer, slowly: boolean) => {
        const socket = Net.connect(port, "127.0.0.1")
        sockets.add(socket)
        let sent = 0
        socket.on("connect", () => {
          connected++
          if (!slowly) return socket.write(said)
          timers.add(setInterval(() => socket.writable && socket.write(said.subarray(sent, ++sent)), 500))
        })
        socket.on("error", () => {}).on("close", () => sockets.delete(socket)).resume()
      }
      const record = (length: number, body: Buffer) =>
        Buffer.concat([Buffer.from([0x16, 3, 1, length >> 8, length & 255]), body])
      const hello = record(508, Buffer.concat([Buffer.from("010001f80303", "hex"), randomBytes(502)]))
      // a ClientHello that announces 16 MB, of which the server gets the first records
      const large = Buffer.concat([
        record(16_384, Buffer.concat([Buffer.from("01ffffff0303", "hex"), Buffer.alloc(16_378)])),
        ...Array.from({ length: 8 }, () => record(16_384, Buffer.alloc(16_384)))
      ])
      const kinds = [
        [1_000, () => open(Buffer.alloc(0), false)],
        [300, () => open(hello, true)],
        [100, () => open(large, false)],
        [1_000, () => open(randomBytes(64), false)]
      ] as const
      for (const [count, begin] of kinds) {
        // fewer at a time than the queue of the listener holds: the kernel forgets the others, and their clients wait
        for (let begun = 0; begun < count; begun += 100) {
          const before = connected
          for (let i = 0; i < 100; i++) begin()
          yield* until(Effect.sync(() => connected), (now) => now === before + 100)
          yield* client.getPing
        }
      }
      for (let i = 0; i < 20; i++) {
        yield* client.getPing
        yield* Effect.scoped(Effect.flatMap(clientOf(port, trusting()), ({ getPing }) => getPing))
      }
      yield* until(Effect.sync(() => sockets.size), (left) => left === 0)
      yield* client.getPing
    }), 60_000)

  it.scoped("a client cannot begin another handshake on its connection", () =>
    Effect.gen(function*() {
      const { port } = yield* Harness.start({ tls: yield* filesOf(here()) }, trusting())
      const answer = yield* Effect.async<string>((resume) => {
        const socket = NodeTls.connect(
          { port, host: "127.0.0.1", ca: authority.certificate, ALPNProtocols: ["h2"], maxVersion: "TLSv1.2" },
          () => socket.renegotiate({}, (error) => resume(Effect.succeed(error === null ? "renegotiated" : "refused")))
        )
        socket.on("error", () => resume(Effect.succeed("refused"))).on("close", () => resume(Effect.succeed("refused")))
      })
      assert.strictEqual(answer, "refused")
      const old = yield* Effect.async<string>((resume) => {
        const socket = NodeTls.connect({
          port,
          host: "127.0.0.1",
          ca: authority.certificate,
          minVersion: "TLSv1",
          maxVersion: "TLSv1.1",
          ciphers: "DEFAULT@SECLEVEL=0"
        }, () => resume(Effect.succeed("accepted")))
        socket.on("error", () => resume(Effect.succeed("refused")))
      })
      assert.strictEqual(old, "refused")
    }))
})
