import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { readFileSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import * as LocalTls from "../../src/cli/LocalTls.js"
import * as Authority from "../../src/local/Authority.js"
import * as Stack from "../../src/local/Stack.js"
import * as Calls from "../harness/Calls.js"
import { freePort } from "../harness/FreePort.js"
import * as SecuredKafka from "../harness/SecuredKafka.js"
import * as World from "../harness/World.js"
import { env, killed } from "./Instances.js"
import * as Saga from "./Saga.js"

/**
 * Servers that take encrypted connections alone, as `payments local up --tls` starts them. At another port of Kafka the services log
 * in with a password and a client certificate.
 */
const secured = Effect.gen(function*() {
  // the services run elsewhere
  const folder = resolve(yield* World.freshFolder)
  const { servers, variables } = yield* LocalTls.make(`${folder}/tls`)
  const clients = Authority.make("clients of Kafka")
  const [kafka, login, controller] = [yield* freePort, yield* freePort, yield* freePort]
  const listeners = `SSL://127.0.0.1:${kafka},LOGIN://127.0.0.1:${login}`
  const stack = yield* Stack.start({
    folder,
    cache: ".local/cache",
    ports: { postgres: 0, redis: 0, kafka },
    throwaway: true,
    tls: servers,
    kafkaProperties: {
      "controller.quorum.voters": `1@127.0.0.1:${controller}`,
      "listeners": `${listeners},CONTROLLER://127.0.0.1:${controller}`,
      "advertised.listeners": listeners,
      "listener.security.protocol.map": "SSL:SSL,LOGIN:SASL_SSL,CONTROLLER:SSL",
      "listener.name.login.ssl.client.auth": "required",
      "listener.name.login.ssl.truststore.type": "PEM",
      "listener.name.login.ssl.truststore.certificates": clients.certificate,
      "listener.name.login.sasl.enabled.mechanisms": "SCRAM-SHA-512",
      "listener.name.login.scram-sha-512.sasl.jaas.config":
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    }
  })
  const file = (name: string, content: string) => {
    writeFileSync(`${folder}/tls/${name}`, content)
    return `${folder}/tls/${name}`
  }
  const setPassword = SecuredKafka.passwordsAt({
    brokers: [stack.kafkaBrokers!],
    clientId: "admin",
    security: { tls: { files: { prefix: "KAFKA_TLS", ca: variables.KAFKA_TLS_CA } } }
  })
  /** Gives the service another password and another client certificate. */
  const renew = Effect.fnUntraced(function*(password: string) {
    const { certificate, key } = clients.issue({ names: ["payments"] })
    yield* setPassword("payments", "SCRAM-SHA-512", password)
    return {
      KAFKA_BROKERS: `127.0.0.1:${login}`,
      KAFKA_TLS_CERT: file("kafka-client.pem", certificate),
      KAFKA_TLS_KEY: file("kafka-client-key.pem", key),
      KAFKA_SASL_MECHANISM: "SCRAM-SHA-512",
      KAFKA_SASL_USERNAME: "payments",
      KAFKA_SASL_PASSWORD_FILE: file("kafka-password", password)
    }
  })
  return {
    variables: { ...variables, ...yield* renew("first-password") },
    renew,
    servers: {
      databaseUrl: stack.databaseUrl!,
      redisUrl: stack.redisUrl!,
      kafkaBrokers: stack.kafkaBrokers!
    },
    credentials: {
      ca: servers.authority,
      caFile: variables.KAFKA_TLS_CA,
      token: readFileSync(variables.GRPC_TOKEN_FILE, "utf8").trim()
    }
  } as const
}).pipe(Effect.provide(NodeContext.layer))

class Secured extends Context.Tag("test/Secured")<Secured, Effect.Effect.Success<typeof secured>>() {}

layer(Layer.scoped(Secured, secured), { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P2 P4 P14: everything encrypted and authenticated",
  (it) => {
    it.scoped(
      "a process is killed under load, and the delivery changes: every order once, every call with its caller",
      () =>
        Effect.gen(function*() {
          const { credentials, renew, servers, variables } = yield* Secured
          const saga = yield* Saga.make({ servers, secured: credentials, env: { ...env, ...variables } })
          const first = yield* saga.serve()
          yield* first.untilReady
          const connections = yield* saga.tables.query<{ readonly plain: number; readonly encrypted: number }>(
            `SELECT count(*) FILTER (WHERE NOT ssl)::int AS plain, count(*) FILTER (WHERE ssl)::int AS encrypted
           FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'client backend'`
          )
          assert.strictEqual(connections[0]!.plain, 0)
          assert.isAbove(connections[0]!.encrypted, 1)
          assert.match(first.stderr(), /gRPC listens/)
          yield* saga.outlives(Effect.gen(function*() {
            // the open connections go on, and the next process needs the new password
            yield* renew("second-password")
            yield* saga.more()
            yield* killed(first)
            const second = yield* saga.serve([], { OUTBOX_DELIVERY: "exactly-once" })
            yield* second.untilReady
            // refused without a known token, also beside calls with one
            const stranger = yield* Calls.make(second.grpc, { ...credentials, token: "pay_unknown" })
            assert.strictEqual((yield* stranger.pay(1)).code, "UNAUTHENTICATED")
          }))
          const settlers = yield* saga.tables.query<{ readonly settled_by: string | null }>(
            "SELECT DISTINCT settled_by FROM payment WHERE status <> 'CREATED'"
          )
          assert.deepStrictEqual(settlers, [{ settled_by: "developer" }])
        }),
      240_000
    )
  }
)
