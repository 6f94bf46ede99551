import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { optionsOf } from "../../harness/SecuredKafka.js"

const account = { KAFKA_SASL_USERNAME: "payments", KAFKA_SASL_PASSWORD: "secret-password" }
const endpoint = {
  KAFKA_OAUTH_TOKEN_URL: "https://login.example.com/token",
  KAFKA_OAUTH_CLIENT_ID: "payments",
  KAFKA_OAUTH_CLIENT_SECRET: "secret-password"
}

/** Settings, and the lines of their problems. */
const problems: Record<string, readonly [Record<string, string>, ReadonlyArray<RegExp>]> = {
  "files without TLS": [
    { KAFKA_TLS_SERVER_NAME: "kafka" },
    [/^KAFKA_TLS_SERVER_NAME is set, and KAFKA_TLS is false/]
  ],
  "a certificate without its key": [
    { KAFKA_TLS: "true", KAFKA_TLS_CERT: "CERT" },
    [/^KAFKA_TLS_KEY is empty, and KAFKA_TLS_CERT is set/, /^KAFKA_TLS_CERT names a file that cannot be read/]
  ],
  "a key without its certificate": [
    { KAFKA_TLS: "true", KAFKA_TLS_KEY: "KEY" },
    [/^KAFKA_TLS_CERT is empty, and KAFKA_TLS_KEY is set/, /^KAFKA_TLS_KEY names a file that cannot be read/]
  ],
  "an account without a mechanism": [
    account,
    [
      /^KAFKA_SASL_USERNAME is set, and KAFKA_SASL_MECHANISM is empty/,
      /^KAFKA_SASL_PASSWORD is set, and KAFKA_SASL_MECHANISM is empty/
    ]
  ],
  "a mechanism without an account": [
    { KAFKA_SASL_MECHANISM: "SCRAM-SHA-512" },
    [
      /^KAFKA_SASL_USERNAME is empty, and KAFKA_SASL_MECHANISM is SCRAM-SHA-512/,
      /^KAFKA_SASL_PASSWORD is empty, and KAFKA_SASL_MECHANISM is SCRAM-SHA-512/
    ]
  ],
  "a password beside OAUTHBEARER": [
    { KAFKA_SASL_MECHANISM: "OAUTHBEARER", KAFKA_SASL_USERNAME: "payments", ...endpoint },
    [/^KAFKA_SASL_USERNAME is set, and KAFKA_SASL_MECHANISM is OAUTHBEARER/]
  ],
  "OAUTHBEARER without an endpoint": [
    { KAFKA_SASL_MECHANISM: "OAUTHBEARER", KAFKA_OAUTH_CLIENT_ID: "payments" },
    [
      /^KAFKA_OAUTH_TOKEN_URL is empty, and KAFKA_SASL_MECHANISM is OAUTHBEARER/,
      /^KAFKA_OAUTH_CLIENT_SECRET is empty, and KAFKA_SASL_MECHANISM is OAUTHBEARER/
    ]
  ],
  "an endpoint beside PLAIN": [
    { KAFKA_SASL_MECHANISM: "PLAIN", ...account, KAFKA_OAUTH_SCOPE: "kafka" },
    [/^KAFKA_OAUTH_SCOPE is set, and KAFKA_SASL_MECHANISM is PLAIN/]
  ],
  "a password and its file": [
    { KAFKA_SASL_MECHANISM: "PLAIN", ...account, KAFKA_SASL_PASSWORD_FILE: "FILE" },
    [/^KAFKA_SASL_PASSWORD is set beside KAFKA_SASL_PASSWORD_FILE/]
  ],
  "a file without a password": [
    { KAFKA_SASL_MECHANISM: "PLAIN", KAFKA_SASL_USERNAME: "payments", KAFKA_SASL_PASSWORD_FILE: "EMPTY" },
    [/^KAFKA_SASL_PASSWORD_FILE names .*, whose content is empty/]
  ]
}

describe("KafkaSettings", () => {
  it.effect.each(Object.entries(problems))("refuses %s", ([, [variables, expected]]) =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "payments-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      const empty = join(folder, "empty")
      writeFileSync(empty, "")
      const paths = Object.entries(variables).map(([name, value]) =>
        [name, value === "EMPTY" ? empty : /^(CERT|KEY|FILE)$/.test(value) ? join(folder, value) : value] as const
      )
      const { message } = yield* Effect.flip(optionsOf(Object.fromEntries(paths)))
      const lines = message.split("\n").slice(1).map((line) => line.trim())
      assert.lengthOf(lines, expected.length, message)
      lines.forEach((line, n) => assert.match(line, expected[n]!))
      assert.notInclude(message, "secret-password")
    }).pipe(Effect.scoped))

  it.effect("gives all clients of an account one token", () =>
    Effect.gen(function*() {
      const variables = { KAFKA_SASL_MECHANISM: "OAUTHBEARER", ...endpoint }
      const token = (more = {}) =>
        Effect.map(optionsOf({ ...variables, ...more }), ({ security }) =>
          security?.sasl?.mechanism === "OAUTHBEARER" ? security.sasl.token : undefined)
      const first = yield* token()
      assert.isDefined(first)
      assert.strictEqual(yield* token(), first)
      assert.notStrictEqual(yield* token({ KAFKA_OAUTH_CLIENT_ID: "other" }), first)
    }))
})
