import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Either, Logger } from "effect"
import * as Listening from "../../src/cli/Listening.js"
import { settingsOf } from "../../src/cli/Services.js"
import { readSettings } from "../../src/Config.js"
import type { Role } from "../../src/ops/Parts.js"

/** The problem of this environment, and the warnings; `fine` without a problem. */
const check = (environment: Record<string, string>, running: ReadonlyArray<Role> = ["grpc"]) =>
  Effect.gen(function*() {
    const warnings: Array<string> = []
    const checked = Effect.flatMap(readSettings(...settingsOf(running)), (config) => Listening.check(config, running))
    const found = yield* Effect.either(checked).pipe(
      Effect.provide(
        Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void warnings.push(String(message))))
      )
    )
    return { problem: Either.match(found, { onLeft: ({ message }) => message, onRight: () => "fine" }), warnings }
  }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))))

const cert = { GRPC_TLS_CERT: "/nowhere/grpc.crt", GRPC_TLS_KEY: "/nowhere/grpc.key" }
const token = { GRPC_AUTH: "token", GRPC_TOKENS_FILE: "/nowhere/tokens" }

describe("Listening", () => {
  it.effect("loopback needs neither TLS nor authentication", () =>
    Effect.gen(function*() {
      for (const host of ["127.0.0.1", "localhost", "[::1]"]) {
        const { problem, warnings } = yield* check({ GRPC_ADDR: `${host}:8081`, HTTP_ADDR: `${host}:8082` })
        assert.deepStrictEqual([problem, warnings], ["fine", []])
      }
    }))

  it.effect("another address is refused with its variable and the way out, unless INSECURE allows it", () =>
    Effect.gen(function*() {
      const open = { GRPC_ADDR: "0.0.0.0:8081", HTTP_ADDR: "[::]:8082" }
      const { problem } = yield* check(open)
      assert.include(
        problem,
        "GRPC_ADDR is 0.0.0.0:8081, which other machines reach, without TLS (GRPC_TLS_CERT, GRPC_TLS_KEY) and without " +
          "authentication (GRPC_AUTH): set that, or INSECURE=true if it is meant, e.g. GRPC_ADDR=127.0.0.1:8081"
      )
      assert.include(problem, "HTTP_ADDR is [::]:8082, which other machines reach, without TLS (HTTP_TLS_CERT")
      const meant = yield* check({ ...open, INSECURE: "true" })
      assert.strictEqual(meant.problem, "fine")
      assert.lengthOf(meant.warnings, 2)
      assert.match(meant.warnings[0]!, /^INSECURE=true: gRPC at 0.0.0.0:8081 is without TLS/)
      // a consumer has no gRPC server
      assert.notInclude((yield* check(open, ["consumer"])).problem, "GRPC_ADDR")
      assert.include(
        (yield* check({ GRPC_ADDR: "10.0.0.1:8081", ...cert })).problem,
        "without authentication (GRPC_AUTH)"
      )
      assert.include((yield* check({ GRPC_ADDR: "10.0.0.1:8081", ...token })).problem, "without TLS (GRPC_TLS_CERT")
      // with both the files count
      assert.include(
        (yield* check({ GRPC_ADDR: "10.0.0.1:8081", ...cert, ...token })).problem,
        "GRPC_TLS_CERT names a file"
      )
    }))

  it.effect("settings that contradict each other are named", () =>
    Effect.gen(function*() {
      for (
        const [environment, expected] of [
          [{ GRPC_TLS_CERT: "a" }, /GRPC_TLS_KEY is empty, and GRPC_TLS_CERT is set/],
          [{ GRPC_TLS_KEY: "a" }, /GRPC_TLS_CERT is empty, and GRPC_TLS_KEY is set/],
          [{ GRPC_TLS_CLIENT_CA: "a" }, /GRPC_TLS_CERT is empty, and GRPC_TLS_CLIENT_CA is set/],
          [{ HTTP_TLS_CERT: "a" }, /HTTP_TLS_KEY is empty, and HTTP_TLS_CERT is set/],
          [{ HTTP_TLS_KEY: "a" }, /HTTP_TLS_CERT is empty, and HTTP_TLS_KEY is set/],
          [{ GRPC_AUTH: "token" }, /GRPC_TOKENS_FILE is empty, and GRPC_AUTH is token/],
          [{ GRPC_TOKENS_FILE: "a" }, /GRPC_TOKENS_FILE is set, and GRPC_AUTH is none/],
          [
            { GRPC_AUTH: "jwt", GRPC_JWKS_URL: "https://issuer.test/keys", GRPC_JWT_ISSUER: "a" },
            /GRPC_JWT_AUDIENCE is empty, and GRPC_AUTH is jwt/
          ],
          [
            { GRPC_AUTH: "jwt", GRPC_JWKS_URL: "http://issuer.test/", GRPC_JWT_ISSUER: "a", GRPC_JWT_AUDIENCE: "b" },
            /GRPC_JWKS_URL gets the keys of tokens without TLS/
          ],
          [
            { GRPC_AUTH: "certificate", GRPC_AUTH_CERTIFICATE_NAMES: "a=payments:read" },
            /GRPC_TLS_CLIENT_CA is empty, and GRPC_AUTH is certificate/
          ]
        ] as const
      ) {
        assert.match((yield* check(environment)).problem, expected)
      }
    }))
})
