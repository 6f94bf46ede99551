import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { randomUUID } from "node:crypto"
import { createRequire } from "node:module"
import * as Kafka from "../../../src/infra/kafka/KafkaClient.js"
import * as KafkaProducer from "../../../src/infra/kafka/KafkaProducer.js"
import * as KafkaTail from "../../../src/infra/kafka/KafkaTail.js"
import { problemOf } from "../../../src/infra/runtime/Problem.js"
import { until } from "../../harness/Eventually.js"
import { layer as broker, optionsOf, SecuredKafka } from "../../harness/SecuredKafka.js"

interface Connection {
  readonly isConnected: () => boolean
}
type Method = (this: Connection) => Promise<unknown>

const require = createRequire(import.meta.url)
const authenticator = require("kafkajs/src/broker/saslAuthenticator") as {
  readonly prototype: { authenticate: Method }
}
const connection = require("kafkajs/src/network/connection") as { readonly prototype: { connect: Method } }

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
  "no TLS at a port for TLS": [
    (_) => ({ KAFKA_BROKERS: _.tls }),
    /: \S+ answered, but not as Kafka: it speaks TLS, and this client does not \(KAFKA_TLS=true\)$/
  ],
  "TLS at a port without TLS": [
    (_) => ({ KAFKA_BROKERS: _.plain, ...tls(_) }),
    /: 127\.0\.0\.1:\d+: it closed the connection during the TLS handshake: is it a port without TLS \(KAFKA_TLS=false\)\?$/
  ],
  "an unknown authority": [
    (_) => ({ KAFKA_BROKERS: _.tls, KAFKA_TLS: "true", KAFKA_TLS_CA: _.strangerCa }),
    /: 127\.0\.0\.1:\d+: an authority that is not trusted signed .*: set KAFKA_TLS_CA to the certificate of the brokers' authority$/
  ],
  "only the authorities of Node": [
    (_) => ({ KAFKA_BROKERS: _.tls, KAFKA_TLS: "true" }),
    /: 127\.0\.0\.1:\d+: an authority that is not trusted signed .*: set KAFKA_TLS_CA to/
  ],
  "an expired certificate": [
    (_) => ({ KAFKA_BROKERS: _.expired, ...tls(_) }),
    /: 127\.0\.0\.1:\d+: the server's certificate has expired .*: renew the certificate of the broker/
  ],
  "a host that is not in the certificate": [
    (_) => ({ KAFKA_BROKERS: _.host(_.tls), ...tls(_) }),
    /: localhost:\d+: the server's certificate is for another name than localhost .*KAFKA_TLS_SERVER_NAME$/
  ],
  "another server name": [
    (_) => ({ KAFKA_BROKERS: _.tls, ...tls(_), KAFKA_TLS_SERVER_NAME: "other.test" }),
    /: 127\.0\.0\.1:\d+: the server's certificate is for another name than other.test .*KAFKA_TLS_SERVER_NAME$/
  ],
  "no client certificate": [
    (_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_) }),
    /: 127\.0\.0\.1:\d+: it demands a client certificate .*: set KAFKA_TLS_CERT and KAFKA_TLS_KEY$/
  ],
  "an expired client certificate": [
    (_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_), ..._.expiredClient }),
    /: 127\.0\.0\.1:\d+: the server refused our client certificate .*: set KAFKA_TLS_CERT and KAFKA_TLS_KEY to/
  ],
  "a foreign client certificate": [
    (_) => ({ KAFKA_BROKERS: _.mutual, ...tls(_), ..._.strangerClient }),
    /: 127\.0\.0\.1:\d+: the server refused our client certificate .*: set KAFKA_TLS_CERT and KAFKA_TLS_KEY to/
  ],
  "no login": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_) }),
    /: 127\.0\.0\.1:\d+ closed the connection at our second request: does it demand a login \(KAFKA_SASL_MECHANISM\)\?$/
  ],
  "a login where none is wanted": [
    (_) => ({ KAFKA_BROKERS: _.tls, ...tls(_), ...plain("plain-password") }),
    /access: 127\.0\.0\.1:\d+ refuses the login: this port takes no login: .*unset KAFKA_SASL_MECHANISM$/
  ],
  "a mechanism that is not offered": [
    (_) => ({ KAFKA_BROKERS: _.plainLogin, ...plain("plain-password") }),
    /access: 127\.0\.0\.1:\d+ refuses the login: KAFKA_SASL_MECHANISM is PLAIN, and this port offers SCRAM-SHA-512$/
  ],
  "a wrong password (PLAIN)": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...plain("wrong") }),
    /access: 127\.0\.0\.1:\d+ refuses the login: .* \(PLAIN\): check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD$/
  ],
  "a wrong password (SCRAM)": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...scram("SCRAM-SHA-256", "wrong") }),
    /access: 127\.0\.0\.1:\d+ refuses the login: .* \(SCRAM-SHA-256\): check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD$/
  ],
  "a wrong client secret": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...token(_, { KAFKA_OAUTH_CLIENT_SECRET: "a-wrong-secret" }) }),
    /access: the token endpoint https:\S+ refuses the login: invalid_client \(KAFKA_OAUTH_CLIENT_ID/
  ],
  "a token endpoint of an unknown authority": [
    (_) => ({ KAFKA_BROKERS: _.login, ...tls(_), ...token(_, { KAFKA_OAUTH_TLS_CA: _.strangerCa }) }),
    /: the token endpoint https:.*not trusted.*KAFKA_OAUTH_TLS_CA/
  ],
  "a token endpoint that is away": [
    (_) => ({
      KAFKA_BROKERS: _.login,
      ...tls(_),
      ...token(_, { KAFKA_OAUTH_TOKEN_URL: "https://127.0.0.1:9/token" })
    }),
    /: the token endpoint https:\S+ \(KAFKA_OAUTH_TOKEN_URL\) gives no token: .*ECONNREFUSED/
  ]
}

/** Connects a new client. */
const connect = (options: Kafka.KafkaOptions) =>
  Kafka.withAdmin(options, (admin) => Kafka.attempt(() => admin.listTopics()))

const connected = (variables: Variables) => Effect.flatMap(optionsOf(variables), connect)

/** Counts new connections and logins of this process, for the life of the scope. */
const counted = Effect.acquireRelease(
  Effect.sync(() => {
    const counts = { connections: 0, logins: 0 }
    const { authenticate } = authenticator.prototype
    const { connect } = connection.prototype
    connection.prototype.connect = function() {
      if (!this.isConnected()) counts.connections++
      return connect.call(this)
    }
    authenticator.prototype.authenticate = function() {
      counts.logins++
      return authenticate.call(this)
    }
    return { counts, authenticate, connect }
  }),
  ({ authenticate, connect }) =>
    Effect.sync(() => {
      authenticator.prototype.authenticate = authenticate
      connection.prototype.connect = connect
    })
)

const record = (topic: string, value: string) => ({ topic, key: "1", value: Buffer.from(value) })

/** A new topic, and clients that write and follow it with these settings. */
const traffic = Effect.fnUntraced(function*(variables: Variables) {
  const [secured, options] = [yield* SecuredKafka, yield* optionsOf(variables)]
  const topic = `traffic-${randomUUID()}`
  yield* Kafka.withAdmin(secured.admin, (admin) => Kafka.createTopics(admin, [{ topic }]))
  const tail = yield* KafkaTail.open({ ...options, topic, from: "beginning" })
  const producer = yield* KafkaProducer.make(options)
  let sent = 0
  /** Sends a record over the open connections, and reads it. */
  const pass = Effect.gen(function*() {
    const value = String(sent++)
    yield* producer.send([record(topic, value)], () => true)
    assert.strictEqual(String((yield* tail.take).value), value)
  })
  yield* pass
  return { options, pass } as const
})

layer(broker, { excludeTestServices: true, timeout: "100 seconds" })("KafkaSecurity", (it) => {
  for (const [name, variables] of Object.entries(right)) {
    it.effect(`connects with ${name}`, () =>
      Effect.gen(function*() {
        yield* connected(variables(yield* SecuredKafka))
      }))
  }

  for (const [name, [variables, expected]] of Object.entries(refused)) {
    it.effect(`explains ${name}`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(connected(variables(yield* SecuredKafka)))
        const { reason, why } = problemOf(error, "kafka")
        assert.match(why, expected)
        assert.strictEqual(reason, why.includes("refuses the login") ? "permission" : "kafka")
        assert.notMatch(why, /wrong/)
      }))
  }

  it.effect("explains a token that the broker refuses, and asks for a new one", () =>
    Effect.gen(function*() {
      const secured = yield* SecuredKafka
      const { state } = secured.endpoint
      const variables = {
        KAFKA_BROKERS: secured.login,
        ...tls(secured),
        ...token(secured, { KAFKA_OAUTH_SCOPE: "old" })
      }
      state.age = 7_200
      const error = yield* Effect.ensuring(Effect.flip(connected(variables)), Effect.sync(() => void (state.age = 0)))
      assert.match(
        problemOf(error, "kafka").why,
        /access: 127\.0\.0\.1:\d+ refuses the login: .* \(OAUTHBEARER\): check KAFKA_OAUTH_SCOPE/
      )
      yield* connected(variables)
    }))

  it.scoped("renews the token on open connections", () =>
    Effect.gen(function*() {
      const secured = yield* SecuredKafka
      const { state } = secured.endpoint
      // renewed after 2 s
      state.life = 4
      yield* Effect.addFinalizer(() => Effect.sync(() => void (state.life = 3_600)))
      const before = state.issued
      const variables = {
        KAFKA_BROKERS: secured.login,
        ...tls(secured),
        ...token(secured, { KAFKA_OAUTH_SCOPE: "short" })
      }
      const { pass } = yield* traffic(variables)
      assert.strictEqual(state.issued - before, 1, "all connections share one token")
      const { counts } = yield* counted
      yield* until(
        Effect.as(Effect.delay(pass, "50 millis"), counts),
        ({ logins }) => logins >= 5 && state.issued - before >= 3
      )
      assert.strictEqual(counts.connections, 0)
    }))

  it.scoped("takes a new password for new connections, and keeps the open ones", () =>
    Effect.gen(function*() {
      const secured = yield* SecuredKafka
      const [user, mechanism] = ["rotated", "SCRAM-SHA-512"] as const
      const path = secured.file("password", "first\n")
      yield* secured.setPassword(user, mechanism, "first")
      yield* secured.grant(user, [
        { type: "TOPIC", name: "traffic-", prefixed: true, operations: ["READ", "WRITE"] },
        { type: "GROUP", name: "payments-reader-", prefixed: true, operations: ["READ", "DELETE"] }
      ])
      const { options, pass } = yield* traffic({
        KAFKA_BROKERS: secured.login,
        ...tls(secured),
        KAFKA_SASL_MECHANISM: mechanism,
        KAFKA_SASL_USERNAME: user,
        KAFKA_SASL_PASSWORD_FILE: path
      })
      const { counts } = yield* counted
      const load = yield* Effect.forkScoped(Effect.forever(pass))
      yield* secured.setPassword(user, mechanism, "second")
      const refusal = yield* Effect.flip(connect(options))
      assert.match(refusal.message, /refuses the login: .*KAFKA_SASL_PASSWORD/)
      yield* Effect.sync(() => secured.file("password", "second\n"))
      const opened = counts.connections
      yield* connect(options)
      // the load did not connect again
      assert.strictEqual(counts.connections, opened + 1)
      assert.isTrue(Option.isNone(yield* Fiber.poll(load)))
    }))
})
