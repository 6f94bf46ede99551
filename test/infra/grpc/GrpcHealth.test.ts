import { assert, describe, it } from "@effect/vitest"
import { Effect, TestClock } from "effect"
import { EventEmitter } from "node:events"
import * as GrpcHealth from "../../../src/infra/grpc/GrpcHealth.js"

/** A health service with its handlers, its changeable health, and the number of checks. */
const start = Effect.gen(function*() {
  const state = { healthy: true, asked: 0 }
  const health = yield* GrpcHealth.make([""], Effect.sync(() => (state.asked++, state.healthy)))
  let handlers: any
  health.register({ addService: (_, given) => void (handlers = given) })
  const check = Effect.async<string>((resume) =>
    handlers.check(
      { request: { service: "" } },
      (_: unknown, response: { readonly status: string }) => resume(Effect.succeed(response.status))
    )
  )
  const watch = Effect.sync(() => {
    const sent: Array<string> = []
    const write = ({ status }: { readonly status: string }) => sent.push(status)
    const call = Object.assign(new EventEmitter(), { request: { service: "" }, write })
    handlers.watch(call)
    return { sent, cancel: () => void call.emit("cancelled") }
  })
  return { state, check, watch, stop: health.stop }
})

describe("GrpcHealth", () => {
  it.scoped("checks the health at each request and not before", () =>
    Effect.gen(function*() {
      const { check, state } = yield* start
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(state.asked, 0)
      assert.strictEqual(yield* check, "SERVING")
      state.healthy = false
      assert.strictEqual(yield* check, "NOT_SERVING")
      assert.strictEqual(state.asked, 2)
    }))

  it.scoped("checks the health every 5 seconds while a client watches, and sends changes", () =>
    Effect.gen(function*() {
      const { state, watch } = yield* start
      const { cancel, sent } = yield* watch
      yield* TestClock.adjust("5 seconds")
      state.healthy = false
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([sent, state.asked], [["SERVING", "NOT_SERVING"], 4])
      cancel()
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(state.asked, 4)
    }))

  it.scoped("a stop sends NOT_SERVING once and for good", () =>
    Effect.gen(function*() {
      const { check, stop, watch } = yield* start
      const { sent } = yield* watch
      yield* TestClock.adjust("5 seconds")
      yield* stop
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(sent, ["SERVING", "NOT_SERVING"])
      assert.strictEqual(yield* check, "NOT_SERVING")
    }))
})
