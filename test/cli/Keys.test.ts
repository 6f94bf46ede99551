import { assert, layer } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Layer, Logger, LogLevel, Metric, MetricState, Redacted } from "effect"
import { exportJWK, generateKeyPair, SignJWT } from "jose"
import * as NodeHttp from "node:http"
import * as Listening from "../../src/cli/Listening.js"
import * as Servers from "../../src/cli/Servers.js"
import { readSettings } from "../../src/Config.js"
import * as PaymentsClient from "../../src/grpc/PaymentsClient.js"
import { Health } from "../../src/infra/runtime/Health.js"
import * as Parts from "../../src/ops/Parts.js"
import * as Harness from "../grpc/Harness.js"
import { until as untilWithin } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as PgTest from "../harness/PgTest.js"

const until: typeof untilWithin = (look, holds) => untilWithin(look, holds, "12 seconds")
const health = Layer.effectDiscard(Effect.map(Health, (health) => health.part("migrations").working())).pipe(
  Layer.provideMerge(Parts.layer({ running: ["grpc"], verifiesByKeys: true, rights: {} }))
)
const live = Layer.merge(Harness.services, health).pipe(Layer.provideMerge(PgTest.layer))

const stalled = (part: string) =>
  Effect.map(Metric.snapshot, (pairs) =>
    pairs.flatMap(({ metricKey, metricState }) => {
      const tags = Object.fromEntries(Array.from(metricKey.tags, ({ key, value }) => [key, value]))
      return metricKey.name === "payments_stalled" && tags["part"] === part && tags["reason"] === "issuer" &&
          MetricState.isGaugeState(metricState)
        ? [Number(metricState.value)]
        : []
    })[0])

layer(live, { excludeTestServices: true })("the keys of an issuer", (it) => {
  it.scoped(
    "without them the gRPC server is not ready; with them it stays ready while the issuer is away",
    () =>
      Effect.gen(function*() {
        const logged: Array<string> = []
        const capture = Logger.make(({ message }) => void logged.push(String(message)))
        const pair = () => Effect.promise(() => generateKeyPair("ES256"))
        const [known, later] = [yield* pair(), yield* pair()]
        const keySet = JSON.stringify({
          keys: [{ ...yield* Effect.promise(() => exportJWK(known.publicKey)), kid: "1" }]
        })
        const sign = ({ privateKey }: typeof known, kid: string) =>
          Effect.promise(() =>
            new SignJWT({ iss: "https://issuer.test/", aud: "payments", sub: "orders", scope: "payments:read" })
              .setExpirationTime("1 hour").setProtectedHeader({ alg: "ES256", kid }).sign(privateKey)
          )
        const [grpcPort, issuerPort] = [yield* freePort, yield* freePort]
        const issuer = () =>
          Effect.acquireRelease(
            Effect.async<NodeHttp.Server>((resume) => {
              const server = NodeHttp.createServer((_, response) => {
                response.writeHead(200, { "content-type": "application/json", connection: "close" }).end(keySet)
              }).listen(issuerPort, "127.0.0.1", () => resume(Effect.succeed(server)))
            }),
            (server) => Effect.sync(() => server.close())
          )
        const config = yield* readSettings(...Listening.grpcUsed).pipe(
          Effect.withConfigProvider(ConfigProvider.fromMap(
            new Map(Object.entries({
              GRPC_ADDR: `127.0.0.1:${grpcPort}`,
              GRPC_AUTH: "jwt",
              GRPC_JWKS_URL: `http://127.0.0.1:${issuerPort}/`,
              GRPC_JWT_ISSUER: "https://issuer.test/",
              GRPC_JWT_AUDIENCE: "payments"
            }))
          ))
        )
        yield* Harness.reserve(911n)
        const call = (token: string) =>
          PaymentsClient.make({ host: "127.0.0.1", port: grpcPort }, { token: Redacted.make(token) }).pipe(
            Effect.flatMap(({ getPayment }) => getPayment(911n)),
            Effect.match({
              onSuccess: () => "OK",
              onFailure: (error) => error._tag === "GrpcCallError" ? error.code : error._tag
            }),
            Effect.scoped
          )
        const { current, watch } = yield* Health
        const state = current("grpc")
        const lines = (text: string) => logged.filter((line) => line.startsWith(text))
        yield* Effect.gen(function*() {
          yield* Effect.forkScoped(watch)
          yield* Effect.forkScoped(Servers.grpc(config, Duration.seconds(5)))
          const away = yield* until(
            state,
            ({ dependencies }) => dependencies["grpc-server"]!.waiting_for === "issuer" && lines("waiting").length > 0
          )
          assert.isFalse(away.ready)
          assert.match(away.dependencies["grpc-server"]!.reason!, /GRPC_JWKS_URL gives no keys: connect ECONNREFUSED/)
          assert.strictEqual(yield* stalled("grpc-server"), 1)

          const back = yield* Effect.scoped(Effect.gen(function*() {
            yield* issuer()
            return yield* until(state, ({ ready }) => ready)
          }))
          assert.isTrue(back.dependencies["grpc-keys"]!.ok)
          yield* until(
            Effect.sync(() => lines("no longer waiting for the keys of the issuer")),
            ({ length }) => length === 1
          )

          // away again: a call with an unknown key finds it out at once
          const [byKnown, byLater] = [yield* sign(known, "1"), yield* sign(later, "2")]
          yield* until(Effect.delay(call(byLater), "200 millis"), (code) => code === "UNAVAILABLE")
          const gone = yield* until(state, ({ dependencies }) => !dependencies["grpc-keys"]!.ok)
          assert.isTrue(gone.ready)
          assert.strictEqual(gone.dependencies["grpc-keys"]!.waiting_for, "issuer")
          assert.strictEqual(yield* call(byKnown), "OK")
          yield* until(stalled("grpc-keys"), (count) => count === 1)
          yield* until(
            Effect.sync(() => lines("waiting for the keys of the issuer: GRPC_JWKS_URL")),
            ({ length }) => length === 2
          )
          yield* issuer()
          yield* until(state, ({ dependencies }) => dependencies["grpc-keys"]!.ok)
          assert.strictEqual(yield* call(byLater), "UNAUTHENTICATED")
        }).pipe(
          Effect.provide(Logger.replace(Logger.defaultLogger, capture)),
          Logger.withMinimumLogLevel(LogLevel.Info)
        )
      }),
    60_000
  )
})
