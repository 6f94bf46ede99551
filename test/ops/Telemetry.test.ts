import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Redacted } from "effect"
import * as Telemetry from "../../src/ops/Telemetry.js"
import * as Collector from "../harness/Collector.js"

const options: Telemetry.TelemetryOptions = {
  endpoint: Option.none(),
  headers: Option.some(Redacted.make({ authorization: "Bearer token" })),
  serviceName: "payments-test",
  attributes: Option.some(Redacted.make({ "deployment.environment": "test" }))
}

describe("Telemetry", () => {
  it.scopedLive("sends all telemetry to the collector before the process ends", () =>
    Effect.gen(function*() {
      const { exports, url } = yield* Collector.make
      const telemetry = Telemetry.layer({ ...options, endpoint: Option.some(Redacted.make(url)) })
      yield* Effect.logInfo("a line").pipe(Effect.withSpan("a span"), Effect.provide(telemetry))
      assert.includeMembers(exports.map(({ path }) => path), ["/v1/traces", "/v1/logs"])
      const traces = exports.find(({ path }) => path === "/v1/traces")!
      assert.strictEqual(traces.authorization, "Bearer token")
      for (const text of ["a span", "payments-test", "deployment.environment"]) assert.include(traces.body, text)
    }))

  it.scopedLive("without a collector there is no exporter", () =>
    Effect.gen(function*() {
      const before = yield* Effect.tracer
      const tracer = yield* Effect.tracer.pipe(Effect.provide(Telemetry.layer(options)))
      assert.strictEqual(tracer, before)
    }))

  it.scopedLive("a collector that is away blocks nothing", () =>
    Effect.void.pipe(
      Effect.withSpan("lost"),
      Effect.provide(Telemetry.layer({ ...options, endpoint: Option.some(Redacted.make("http://127.0.0.1:1")) })),
      Effect.timeout("20 seconds")
    ))
})
