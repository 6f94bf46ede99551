import { assert, it } from "@effect/vitest"
import { Effect, Logger, Tracer } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import * as LogLine from "../../../src/infra/runtime/LogLine.js"

/** The lines that an effect logs, parsed. */
const linesOf = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    yield* Effect.provide(
      effect,
      Logger.replace(Logger.defaultLogger, Logger.map(LogLine.json, (line) => void lines.push(line)))
    )
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  })

it.effect("a line has time, level and message first; the message is always text; annotations are fields", () =>
  Effect.gen(function*() {
    const [plain, several, failed, deep] = yield* linesOf(Effect.all([
      Effect.annotateLogs(Effect.logWarning("a record became a dead letter"), {
        order_id: 9007199254740993n,
        partition: 3
      }),
      Effect.logInfo("one", 2, { three: 3 }),
      Effect.logError("a bug", new Error("its message")),
      Effect.annotateLogs(Effect.logInfo("x"), { examples: [{ event_id: "1" }] })
    ]))
    assert.deepStrictEqual(Object.keys(plain!).slice(0, 3), ["timestamp", "level", "message"])
    assert.deepInclude(plain, { level: "WARN", message: "a record became a dead letter", order_id: "9007199254740993" })
    assert.strictEqual(plain!["partition"], 3)
    assert.strictEqual(several!["message"], "one: 2: {\"three\":3}")
    assert.strictEqual(failed!["message"], "a bug: its message")
    assert.deepStrictEqual(deep!["examples"], [{ event_id: "1" }])
  }))

it.effect("a cause is a field of its own; a line inside a span has the id of its trace", () =>
  Effect.gen(function*() {
    const trace = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" }
    const [line] = yield* linesOf(
      Effect.die(new Error("no answer")).pipe(
        Effect.catchAllCause((cause) => Effect.logError("call failed", cause)),
        Effect.withParentSpan(Tracer.externalSpan(trace))
      )
    )
    assert.strictEqual(line!["message"], "call failed")
    assert.include(line!["cause"], "no answer")
    assert.deepInclude(line, { trace_id: trace.traceId, span_id: trace.spanId })
  }))

it("every annotation in the source is snake_case", () => {
  const source = readdirSync("src", { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => readFileSync(`src/${file}`, "utf8"))
  const names = source.flatMap((text) =>
    [...text.matchAll(/annotateLogs\((?:[^{}()]|\([^()]*\))*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}/g)].flatMap((
      [, fields]
    ) => [...fields!.matchAll(/(?:^|[{,])\s*(\w+)\s*(?=[:,}]|$)/g)].map(([, name]) => name!))
  )
  assert.isAbove(names.length, 15)
  for (const name of names) assert.match(name, /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/)
})
