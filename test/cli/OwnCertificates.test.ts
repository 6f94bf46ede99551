import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Metric, MetricState, Option, TestClock } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as OwnCertificates from "../../src/cli/OwnCertificates.js"
import type { Config } from "../../src/cli/Services.js"
import { settingsOf } from "../../src/cli/Services.js"
import { readSettings } from "../../src/Config.js"
import * as Certificates from "../../src/doctor/Certificates.js"
import * as CertificateExpiry from "../../src/infra/tls/CertificateExpiry.js"
import * as Authority from "../../src/local/Authority.js"
import type { Role } from "../../src/ops/Parts.js"

const authority = Authority.make("test authority")
const certificate = (until: string) =>
  authority.issue({ names: ["a"], from: new Date("2026-01-01T00:00:00Z"), until: new Date(until) }).certificate

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "expiry-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

/** The metric, by variable. */
const measured = Effect.map(
  Metric.snapshot,
  (pairs) =>
    Object.fromEntries(
      pairs.flatMap(({ metricKey, metricState }) =>
        metricKey.name === "payments_tls_certificate_expiry_timestamp_seconds" && MetricState.isGaugeState(metricState)
          ? [[Array.from(metricKey.tags)[0]!.value, Number(metricState.value)] as const]
          : []
      )
    )
)

it.scoped("the first end in each file: in the metric, and as a finding of the doctor fourteen days before", () =>
  Effect.gen(function*() {
    const [near, far] = ["2026-06-15T00:00:00Z", "2027-06-15T00:00:00Z"]
    const place = yield* folder
    const file = (name: string, content: string) => {
      writeFileSync(join(place, name), content)
      return { variable: name, path: join(place, name) }
    }
    const chain = file("CHAIN", certificate(far) + certificate(near))
    const files = [chain, file("OTHER", certificate(far)), file("NONE", "no certificate")]
    yield* TestClock.setTime(Date.parse("2026-05-31T23:59:58Z"))
    yield* Effect.forkScoped(CertificateExpiry.watch(files))
    yield* TestClock.adjust("1 second")
    assert.deepStrictEqual(yield* measured, {
      CHAIN: Date.parse(near) / 1_000,
      OTHER: Date.parse(far) / 1_000,
      NONE: NaN
    })
    const found = Effect.map(Certificates.check(files), (results) => results.map(({ found, state }) => [state, found]))
    const [first, ...others] = yield* found
    assert.deepStrictEqual(first, ["ok", "the certificate in CHAIN ends on 2026-06-15, in 14 days"])
    assert.deepStrictEqual(others.map(([state]) => state), ["ok", "not_checked"])
    yield* TestClock.adjust("2 seconds")
    assert.deepStrictEqual((yield* found)[0], ["finding", "the certificate in CHAIN ends on 2026-06-15, in 13 days"])
    file("OTHER", certificate("2026-05-15T00:00:00Z"))
    assert.deepStrictEqual((yield* found)[1], ["finding", "the certificate in OTHER ended on 2026-05-15"])
    // a renewed file counts without a restart
    file("CHAIN", certificate(far))
    yield* TestClock.adjust("1 minute")
    assert.strictEqual((yield* measured)["CHAIN"], Date.parse(far) / 1_000)
  }))

it.effect("the certificates of a process: those of its servers and clients, and no others", () =>
  Effect.gen(function*() {
    const of = (...running: ReadonlyArray<Role>) =>
      Effect.map(readSettings(...settingsOf(running)), (config) => {
        // such files would have to exist
        const more = { kafkaTlsCert: Option.some("kafka"), redisTlsCert: Option.some("redis") }
        return OwnCertificates.of({ ...config, ...more } as Config, running).map(({ path, variable }) =>
          `${variable} ${path}`
        )
      })
    assert.deepStrictEqual(yield* of("grpc"), ["HTTP_TLS_CERT http", "GRPC_TLS_CERT grpc", "DATABASE_URL postgres"])
    assert.deepStrictEqual(yield* of("consumer"), [
      "HTTP_TLS_CERT http",
      "DATABASE_URL postgres",
      "KAFKA_TLS_CERT kafka",
      "REDIS_TLS_CERT redis"
    ])
  }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(
    new Map(Object.entries({
      DATABASE_URL: "postgres://db/payments?sslmode=require&sslcert=postgres&sslkey=key",
      GRPC_TLS_CERT: "grpc",
      GRPC_TLS_KEY: "key",
      HTTP_TLS_CERT: "http",
      HTTP_TLS_KEY: "key",
      KAFKA_TLS: "true"
    }))
  ))))
