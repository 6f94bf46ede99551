import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Option, Tracer } from "effect"
import * as Trace from "../../../src/infra/runtime/Trace.js"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const spanId = "b7ad6b7169203331"

describe("Trace", () => {
  it("reads a traceparent", () => {
    for (const [flags, sampled] of [["00", false], ["01", true], ["02", false], ["03", true], ["ff", true]] as const) {
      const parent = Option.getOrThrow(Trace.parse(`00-${traceId}-${spanId}-${flags}`))
      assert.deepStrictEqual([parent.traceId, parent.spanId, parent.sampled], [traceId, spanId, sampled])
    }
  })

  it("an invalid traceparent gives no parent", () => {
    const wrong = [
      "",
      "00",
      `01-${traceId}-${spanId}-01`,
      `ff-${traceId}-${spanId}-01`,
      `00-${traceId.toUpperCase()}-${spanId}-01`,
      `00-${"0".repeat(32)}-${spanId}-01`,
      `00-${traceId}-${"0".repeat(16)}-01`,
      `00-${traceId.slice(1)}-${spanId}-01`,
      `00-${traceId}-${spanId}0-01`,
      `00-${traceId}-${spanId}-1`,
      `00-${traceId}-${spanId}-0g`,
      `00-${traceId}-${spanId}-01-more`,
      ` 00-${traceId}-${spanId}-01`,
      `00-${traceId}-${spanId}-01\n`,
      `00-${traceId}-${spanId}-01,00-${traceId}-${spanId}-01`
    ]
    for (const text of wrong) assert.isTrue(Option.isNone(Trace.parse(text)), text)
  })

  it("parsing never throws and keeps the ids", () => {
    const hex = (length: number) =>
      fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: length, maxLength: length })
    const nearly = fc.tuple(fc.constantFrom("00", "01", "0"), hex(32), hex(16), fc.constantFrom("00", "01", "1", "zz"))
      .map((parts) => parts.join("-"))
    fc.assert(fc.property(fc.oneof(fc.string(), nearly), (text) => {
      const found = Trace.parse(text)
      if (Option.isNone(found)) return
      const { sampled, spanId, traceId } = found.value
      assert.strictEqual(`00-${traceId}-${spanId}-0${sampled ? 1 : 0}`, text)
    }))
  })

  it.effect("there is no traceparent outside of a span", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Trace.current, Option.none())
    }))

  it("a new traceparent is valid and unique", () => {
    const begun = Array.from({ length: 100 }, Trace.begin)
    for (const traceparent of begun) assert.isFalse(Option.getOrThrow(Trace.parse(traceparent)).sampled)
    assert.strictEqual(new Set(begun).size, 100)
  })

  it.effect("without a collector, the caller's span is passed on", () =>
    Effect.gen(function*() {
      const parent = Tracer.externalSpan({ traceId, spanId, sampled: true })
      const inner = Trace.current.pipe(Effect.withSpan("inner"), Effect.withSpan("outer"))
      const off = Effect.withTracerEnabled(false)
      assert.deepStrictEqual(
        yield* inner.pipe(Effect.withParentSpan(parent), off),
        Option.some(`00-${traceId}-${spanId}-01`)
      )
      assert.deepStrictEqual(yield* off(inner), Option.none())
    }))

  it.effect("with a collector, the current span is a child of the caller's", () =>
    Effect.gen(function*() {
      const parent = Tracer.externalSpan({ traceId, spanId, sampled: true })
      const { now, span } = yield* Effect.all({ now: Trace.current, span: Effect.currentSpan }).pipe(
        Effect.withSpan("work", { parent })
      )
      assert.deepStrictEqual(now, Option.some(`00-${traceId}-${span.spanId}-01`))
      const read = Option.getOrThrow(Option.flatMap(now, Trace.parse))
      assert.deepStrictEqual([read.traceId, read.spanId, read.sampled], [traceId, span.spanId, true])
      const root = yield* Trace.current.pipe(Effect.withSpan("work", { root: true }))
      assert.isTrue(Option.isSome(Option.flatMap(root, Trace.parse)))
    }))

  it.effect("an unsampled span has flag 00", () =>
    Effect.gen(function*() {
      const tracer = yield* Effect.tracer
      const unsampled = Tracer.make({
        context: (f) => f(),
        span: (...args) => Object.assign(Object.create(tracer.span(...args)), { sampled: false, spanId, traceId })
      })
      const now = yield* Trace.current.pipe(Effect.withSpan("work"), Effect.withTracer(unsampled))
      assert.deepStrictEqual(now, Option.some(`00-${traceId}-${spanId}-00`))
    }))
})
