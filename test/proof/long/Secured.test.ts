import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import * as Authority from "../../../src/local/Authority.js"
import * as Calls from "../../harness/Calls.js"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
import * as Secured from "../../harness/Secured.js"
import { optionsOf } from "../../harness/SecuredKafka.js"
import { env, killed } from "../Instances.js"
import * as Saga from "../Saga.js"

/**
 * Servers that take encrypted connections alone, as `payments local up --tls` starts them. The services reach Kafka by a proxy,
 * and log in there with a password and a client certificate.
 */
const make = Effect.gen(function*() {
  const front = yield* freePort
  const secured = yield* Secured.make
  const tls = { tls: secured.servers }
  const [postgres, redis, { behind, broker, front: brokers }] = yield* Effect.all([
    Restartable.make("postgres", tls),
    Restartable.make("redis", tls),
    Restartable.makeBrokerBehind(front, secured)
  ], { concurrency: "unbounded" })
  yield* secured.setPassword(broker.url, "first-password")
  return {
    secured,
    brokers,
    proxy: yield* Proxy.make(behind, front),
    servers: { databaseUrl: secured.trusting(postgres.url), redisUrl: redis.url, kafkaBrokers: broker.url }
  } as const
})

class World extends Context.Tag("test/World")<World, Effect.Effect.Success<typeof make>>() {}

/** Connects as these variables say. */
const connect = (variables: Readonly<Record<string, string>>) =>
  Effect.flatMap(
    optionsOf(variables),
    (options) => Kafka.withAdmin(options, (admin) => Kafka.attempt(() => admin.listTopics()))
  )

layer(Layer.scoped(World, make), { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P2 P4 P14: everything encrypted and authenticated",
  (it) => {
    it.scoped(
      "certificate and password are replaced, a process is killed, the delivery changes: every order once, every call with its caller",
      () =>
        Effect.gen(function*() {
          const { brokers, proxy, secured, servers } = yield* World
          const saga = yield* Saga.make({
            servers,
            secured: secured.credentials,
            env: { ...env, ...secured.variables, KAFKA_BROKERS: brokers }
          })
          const first = yield* saga.serve()
          yield* first.untilReady
          const connections = yield* saga.tables.query<{ readonly plain: number; readonly encrypted: number }>(
            `SELECT count(*) FILTER (WHERE NOT ssl)::int AS plain, count(*) FILTER (WHERE ssl)::int AS encrypted
           FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE backend_type = 'client backend'`
          )
          assert.strictEqual(connections[0]!.plain, 0)
          assert.isAbove(connections[0]!.encrypted, 1)
          assert.match(first.stderr(), /gRPC listens/)

          const successor = Authority.make("the next clients of Kafka")
          const trust = (...authorities: ReadonlyArray<Authority.Authority>) =>
            saga.topics.configureBroker(
              "1",
              "listener.name.behind.ssl.truststore.certificates",
              authorities.map(({ certificate }) => certificate).join("")
            )
          const refusal = (variables: Readonly<Record<string, string>>, expected: RegExp) =>
            Effect.flip(connect({ KAFKA_BROKERS: brokers, ...variables })).pipe(
              Effect.map(({ message }) => assert.match(message, expected)),
              // the broker takes its new settings later than it answers
              eventually()
            )
          /** The broker trusts both authorities, the service gets the new one, and the broker forgets the old one. */
          const rotate = Effect.gen(function*() {
            yield* trust(secured.authorityOfClients, successor)
            const both = secured.client("before", successor, "first-password")
            yield* eventually()(connect({ KAFKA_BROKERS: brokers, ...both }))
            yield* secured.setPassword(servers.kafkaBrokers, "second-password")
            secured.client("kafka", successor, "second-password")
            yield* refusal(both, /refuses the login/)
            yield* trust(successor)
            yield* refusal(
              secured.client("before", secured.authorityOfClients, "second-password"),
              /refused our client certificate|does not trust the authority of our client certificate/
            )
          })
          yield* saga.outlives(Effect.gen(function*() {
            yield* rotate
            // no connection of before is left
            yield* proxy.cut
            const witness = 800_000_001
            yield* saga.reserved(witness)
            yield* Effect.tap(
              saga.tables.count(`event WHERE order_id = ${witness} AND status = 'DONE'`),
              (sent) => assert.strictEqual(sent, 1)
            ).pipe(eventually())
            yield* saga.more()
            yield* killed(first)
            const second = yield* saga.serve([], { OUTBOX_DELIVERY: "exactly-once" })
            yield* second.untilReady
            // refused without a known token, also beside calls with one
            const stranger = yield* Calls.make(second.grpc, { ...secured.credentials, token: "pay_unknown" })
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
