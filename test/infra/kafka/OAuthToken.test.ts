import { assert, it } from "@effect/vitest"
import { Effect, Logger, Option, Redacted, TestClock } from "effect"
import * as OAuthToken from "../../../src/infra/kafka/OAuthToken.js"
import * as Secret from "../../../src/infra/runtime/Secret.js"
import * as Endpoint from "../../harness/TokenEndpoint.js"

const make = Effect.gen(function*() {
  const endpoint = yield* Endpoint.make("client-secret")
  const token = (secret: string) =>
    OAuthToken.make({
      url: endpoint.url,
      clientId: "payments",
      clientSecret: Secret.constant(Redacted.make(secret)),
      scope: Option.some("kafka payments"),
      tls: { prefix: "KAFKA_OAUTH_TLS" }
    })
  return { endpoint, token } as const
})

it.scoped("a token is shared, and renewed before its end", () =>
  Effect.gen(function*() {
    const { endpoint: { state }, token } = yield* make
    state.life = 100
    const { get } = token("client-secret")
    const [first, ...others] = yield* Effect.replicateEffect(get, 5).pipe(Effect.map((all) => all.map(Redacted.value)))
    assert.isTrue(others.every((other) => other === first))
    assert.strictEqual(state.scope, "kafka payments")
    yield* TestClock.adjust("69 seconds")
    yield* get
    assert.strictEqual(state.issued, 1)
    yield* TestClock.adjust("2 seconds")
    yield* get
    assert.strictEqual(state.issued, 2)
  }))

it.scoped("a token stays in use until its end while the endpoint gives no other", () =>
  Effect.gen(function*() {
    const { endpoint: { state }, token } = yield* make
    state.life = 100
    const { get } = token("client-secret")
    const first = yield* get
    state.status = 503
    yield* TestClock.adjust("99 seconds")
    assert.strictEqual(yield* get, first)
    yield* TestClock.adjust("2 seconds")
    const error = yield* Effect.flip(get)
    assert.strictEqual(error._tag, "TokenUnavailable")
    assert.match(error.message, /gives no token: HTTP status 503$/)
  }))

it.scoped("a renewal that fails at each login is one line, one a minute, and one when it works again", () => {
  const lines: Array<string> = []
  return Effect.gen(function*() {
    const { endpoint: { state }, token } = yield* make
    state.life = 1_000
    const { get } = token("client-secret")
    yield* get
    state.status = 503
    yield* TestClock.adjust("801 seconds")
    yield* Effect.replicateEffect(get, 5)
    assert.lengthOf(lines, 1)
    yield* TestClock.adjust("59 seconds")
    yield* get
    assert.lengthOf(lines, 1)
    yield* TestClock.adjust("1 second")
    yield* get
    assert.lengthOf(lines, 2)
    state.status = 200
    yield* get
    yield* get
    assert.deepStrictEqual(lines, [
      ...Array.from({ length: 2 }, () => "the Kafka token is not renewed yet"),
      "the Kafka token is renewed again"
    ])
  }).pipe(Effect.provide(Logger.replace(
    Logger.defaultLogger,
    Logger.make(({ message }) => void lines.push(String([message].flat()[0])))
  )))
})

it.scoped("a refusal has the word of the endpoint, and no secret", () =>
  Effect.gen(function*() {
    const { token } = yield* make
    const error = yield* Effect.flip(token("a wrong secret").get)
    assert.strictEqual(error._tag, "TokenRefused")
    assert.match(error.message, /refuses the login: invalid_client/)
    assert.notMatch(JSON.stringify(error), /wrong/)
  }))
