import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"
import type { Settings } from "../../src/Config.js"
import { readSettings, settings } from "../../src/Config.js"

/** Environments, and the problem of each. */
const problems: ReadonlyArray<readonly [Record<string, string>, RegExp]> = [
  [
    { DATABASE_URL: "postgres://a:secret-password@b/c", DATABASE_PASSWORD_FILE: "a" },
    /DATABASE_PASSWORD_FILE is set beside the password in DATABASE_URL: remove one of them/
  ],
  [
    { DATABASE_PASSWORD_COMMAND: "a", DATABASE_PASSWORD_FILE: "a", DATABASE_URL: "postgres://a@b/c" },
    /DATABASE_PASSWORD_FILE is set beside DATABASE_PASSWORD_COMMAND: set one of them/
  ],
  [
    { DATABASE_PASSWORD_FILE: "/nowhere/password", DATABASE_URL: "postgres://a@b/c" },
    /DATABASE_PASSWORD_FILE names a file that cannot be read/
  ],
  [
    { REDIS_URL: "redis://:secret-password@b", REDIS_PASSWORD: "secret-password" },
    /REDIS_PASSWORD is set beside the password in REDIS_URL: remove one of them/
  ],
  [{ REDIS_TLS_CA: "a" }, /REDIS_TLS_CA is set, and REDIS_URL begins with redis:\/\/: unset it/],
  [
    { REDIS_URL: "rediss://b", REDIS_TLS_KEY: "a" },
    /REDIS_TLS_CERT is empty, and REDIS_TLS_KEY is set: it needs both/
  ],
  [{ GRPC_TLS: "false", GRPC_TLS_CA: "a" }, /GRPC_TLS_CA is set, and GRPC_TLS is false: unset it/],
  [{ GRPC_TLS_CLIENT_CERT: "a" }, /GRPC_TLS_CLIENT_KEY is empty, and GRPC_TLS_CLIENT_CERT is set: it needs both/],
  [{ GRPC_TOKEN: "secret-password1", GRPC_TOKEN_FILE: "a" }, /GRPC_TOKEN is set beside GRPC_TOKEN_FILE: set one/],
  [{ ADMIN_TOKEN: "secret-password1", ADMIN_TOKEN_FILE: "a" }, /ADMIN_TOKEN is set beside ADMIN_TOKEN_FILE: set one/],
  [{ ADMIN_TOKEN_FILE: "/nowhere/token" }, /ADMIN_TOKEN_FILE names a file that cannot be read/]
]

const read = (environment: Record<string, string>) =>
  readSettings(...Object.keys(settings) as ReadonlyArray<keyof Settings>).pipe(
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment))))
  )

describe("Agreement", () => {
  it.effect("the defaults agree", () => Effect.asVoid(read({})))

  it.effect("a command that reads one half of a pair has no problem with the other", () =>
    readSettings("httpTlsCert").pipe(
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["HTTP_TLS_CERT", "a"]]))),
      Effect.asVoid
    ))

  it.effect.each(problems)("refuses %o", ([environment, expected]) =>
    Effect.gen(function*() {
      const { message } = yield* Effect.flip(read(environment))
      assert.match(message, expected)
      assert.notInclude(message, "secret-password")
    }))
})
