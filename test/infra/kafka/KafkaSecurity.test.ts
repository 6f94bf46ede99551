import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import { problemOf } from "../../../src/infra/runtime/Problem.js"
import { layer as broker, optionsOf, SecuredKafka } from "../../harness/SecuredKafka.js"

type Secured = SecuredKafka["Type"]
type Variables = Record<string, string>

const tls = ({ ca }: Secured): Variables => ({ KAFKA_TLS: "true", KAFKA_TLS_CA: ca })
const scram = (mechanism: string, password = "scram-password"): Variables => ({
  KAFKA_SASL_MECHANISM: mechanism,
  KAFKA_SASL_USERNAME: "scramuser",
  KAFKA_SASL_PASSWORD: password
})
const plain = (password: string): Variables => ({
  KAFKA_SASL_MECHANISM: "PLAIN",
  KAFKA_SASL_USERNAME: "plainuser",
  KAFKA_SASL_PASSWORD: password
})
const token = ({ ca, endpoint }: Secured, changes: Variables = {}): Variables => ({
  KAFKA_SASL_MECHANISM: "OAUTHBEARER",
  KAFKA_OAUTH_TOKEN_URL: endpoint.url,
  KAFKA_OAUTH_CLIENT_ID: "token-user",
  KAFKA_OAUTH_CLIENT_SECRET: "client-secret",
  KAFKA_OAUTH_TLS_CA: ca,
  ...changes
})

/** The settings, by what is tested. */
const right: Record<string, (_: Secured) => Variables> = {
  "TLS": (_) => ({ KAFKA_BROKERS: _.tls, ...tls(_) }),
  "TLS with another server name": (_) => ({
    KAFKA_BROKERS: _.tls,
    ...tls(_),
    KAFKA_TLS_SERVER_NAME: "kafka.test"
  }),
  "mutual TLS": (_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_), ..._.client }),
  "PLAIN": (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...plain("plain-password") }),
  "SCRAM-SHA-256": (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...scram("SCRAM-SHA-256") }),
  "SCRAM-SHA-512": (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...scram("SCRAM-SHA-512") }),
  "SCRAM-SHA-512 with a client certificate": (_) => ({
    KAFKA_BROKERS: _.login,
    ...tls(_),
    ..._.client,
    ...scram("SCRAM-SHA-512")
  }),
  "SCRAM-SHA-512 without TLS": (_) => ({ KAFKA_BROKERS: _.plainLogin, ...scram("SCRAM-SHA-512") }),
  "OAUTHBEARER": (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...token(_) })
}

const refused: Record<string, readonly [(_: Secured) => Variables, RegExp]> = {
  "no TLS at a port for TLS": [(_) => ({ KAFKA_BROKERS: _.tls }), /x/],
  "TLS at a port without TLS": [(_) => ({ KAFKA_BROKERS: _.plain, ...tls(_) }), /x/],
  "an unknown authority": [(_) => ({ KAFKA_BROKERS: _.tls, KAFKA_TLS: "true", KAFKA_TLS_CA: _.strangerCa }), /x/],
  "only the authorities of Node": [(_) => ({ KAFKA_BROKERS: _.tls, KAFKA_TLS: "true" }), /x/],
  "an expired certificate": [(_) => ({ KAFKA_BROKERS: _.expired, ...tls(_) }), /x/],
  "a host that is not in the certificate": [(_) => ({ KAFKA_BROKERS: _.host(_.tls), ...tls(_) }), /x/],
  "another server name": [(_) => ({ KAFKA_BROKERS: _.tls, ...tls(_), KAFKA_TLS_SERVER_NAME: "other.test" }), /x/],
  "no client certificate": [(_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_) }), /x/],
  "an expired client certificate": [(_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_), ..._.expiredClient }), /x/],
  "a foreign client certificate": [(_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_), ..._.strangerClient }), /x/],
  "no login": [(_) => ({ KAFKA_BROKERS: _.login, ...tls(_) }), /x/],
  "a login where none is wanted": [(_) => ({ KAFKA_BROKERS: _.tls, ...tls(_), ...plain("plain-password") }), /x/],
  "a mechanism that is not offered": [(_) => ({ KAFKA_BROKERS: _.plainLogin, ...plain("plain-password") }), /x/],
  "a wrong password (PLAIN)": [(_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...plain("wrong") }), /x/],
  "a wrong password (SCRAM)": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...scram("SCRAM-SHA-256", "wrong") }),
    /x/
  ],
  "a wrong client secret": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...token(_, { KAFKA_OAUTH_CLIENT_SECRET: "a-wrong-secret" }) }),
    /x/
  ],
  "a token endpoint of an unknown authority": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...token(_, { KAFKA_OAUTH_TLS_CA: _.strangerCa }) }),
    /x/
  ],
  "a token endpoint that is away": [
    (_) => ({
      KAFKA_BROKERS: _.login,
      ...tls(_),
      ...token(_, { KAFKA_OAUTH_TOKEN_URL: "https://127.0.0.1:9/token" })
    }),
    /x/
  ]
}

const topics = (variables: Variables) =>
  Effect.flatMap(optionsOf(variables), (options) => Kafka.missingTopics(options, ["absent"]))

layer(broker, { excludeTestServices: true, timeout: "100 seconds" })("KafkaSecurity", (it) => {
  for (const [name, variables] of Object.entries(right)) {
    it.effect(`connects with ${name}`, () =>
      Effect.gen(function*() {
        const secured = yield* SecuredKafka
        yield* secured.setPassword("scramuser", "SCRAM-SHA-256", "scram-password")
        yield* secured.setPassword("scramuser", "SCRAM-SHA-512", "scram-password")
        assert.deepStrictEqual(yield* topics(variables(secured)), ["absent"])
      }))
  }

  for (const [name, [variables, expected]] of Object.entries(refused)) {
    it.effect(`explains ${name}`, () =>
      Effect.gen(function*() {
        const secured = yield* SecuredKafka
        const error = yield* Effect.flip(topics(variables(secured)))
        const { reason, why } = problemOf(error, "kafka")
        console.log(`${name} | ${reason} | ${why}`)
        assert.match(why, expected)
      }))
  }
})
