import { assert, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as KafkaLogin from "../../../src/infra/kafka/KafkaLogin.js"
import { passwordMechanisms } from "../../../src/infra/kafka/KafkaSecurity.js"
import * as Secret from "../../../src/infra/runtime/Secret.js"

it.effect.each(passwordMechanisms)(
  "a connection that breaks during a login by %s is no refusal",
  (mechanism) =>
    Effect.gen(function*() {
      const broken = new Error("the connection broke")
      const password = Secret.constant(Redacted.make("secret"))
      const { authenticate } = KafkaLogin.options({ mechanism, username: "payments", password }).authenticationProvider(
        {
          host: "kafka-1",
          port: 9093,
          logger: { debug: () => {}, error: () => {} } as never,
          saslAuthenticate: () => Promise.reject(broken)
        }
      )
      assert.strictEqual(
        yield* Effect.promise(() => authenticate().then(() => undefined, (error: unknown) => error)),
        broken
      )
    })
)
