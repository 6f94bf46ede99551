import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { BrokerContact } from "../../src/outbox/BrokerContact.js"

describe("BrokerContact", () => {
  it.effect("is lost after five seconds without an answer, and found again by the next one", () =>
    Effect.gen(function*() {
      const { answered, isLost } = yield* BrokerContact
      assert.isFalse(yield* isLost, "at the start")
      yield* TestClock.adjust("5 seconds")
      assert.isFalse(yield* isLost)
      yield* TestClock.adjust("1 millis")
      assert.isTrue(yield* isLost)
      answered()
      assert.isFalse(yield* isLost)
      yield* TestClock.adjust("4 seconds")
      answered()
      yield* TestClock.adjust("4 seconds")
      assert.isFalse(yield* isLost, "each answer counts")
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(yield* isLost)
    }).pipe(Effect.provide(BrokerContact.Default)))
})
