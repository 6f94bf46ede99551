import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Logger, Metric, MetricState, Ref, Schedule, TestClock } from "effect"
import * as Waiting from "../../../src/infra/runtime/Waiting.js"

const always = () => true

const make = Effect.gen(function*() {
  const lines: Array<string> = []
  const reports: Array<string | undefined> = []
  const waiting = yield* Waiting.make({
    service: "test",
    for: "the broker",
    report: (problem) => Effect.sync(() => void (reports.at(-1) === problem || reports.push(problem)))
  }, Schedule.spaced("5 seconds")).pipe(
    Effect.tap(({ watch }) => Effect.forkScoped(watch)),
    Effect.provide(Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ annotations, message }) =>
        void lines.push([...[message].flat(), ...[...annotations].map(([name, value]) => `${name}=${value}`)].join(" "))
      )
    ))
  )
  return { ...waiting, lines, reports }
})

const stalled = Effect.map(
  Metric.snapshot,
  (pairs) =>
    pairs.flatMap(({ metricKey, metricState }) =>
      metricKey.name === "payments_stalled" && MetricState.isGaugeState(metricState) &&
        metricKey.tags.some(({ value }) => value === "test")
        ? [Number(metricState.value)]
        : []
    )[0]
)

it.scoped("logs a wait at its start, once a minute and at its end: once for all steps, not for each attempt", () =>
  Effect.gen(function*() {
    const { lines, reports, step } = yield* make
    const there = yield* Ref.make(false)
    const attempts = yield* Ref.make(0)
    const attempt = Ref.update(attempts, (n) => n + 1).pipe(
      Effect.zipRight(Ref.get(there)),
      Effect.filterOrFail((there) => there, () => ({ message: "connection refused" }))
    )
    const both = yield* Effect.fork(
      Effect.all([step("a/0", always)(attempt), step("a/1", always)(attempt)], { concurrency: "unbounded" })
    )
    yield* TestClock.adjust("10 seconds")
    assert.deepStrictEqual(lines, ["waiting for the broker: connection refused waiting=a/0, a/1"])
    assert.deepStrictEqual(reports, ["connection refused"])
    assert.strictEqual(yield* stalled, 2)
    yield* TestClock.adjust("130 seconds")
    assert.isAbove(yield* Ref.get(attempts), 50)
    assert.deepStrictEqual(lines.slice(1), [
      "still waiting for the broker, for 1m 1s: connection refused waiting=a/0, a/1",
      "still waiting for the broker, for 2m 1s: connection refused waiting=a/0, a/1"
    ])
    yield* Ref.set(there, true)
    yield* TestClock.adjust("5 seconds")
    yield* Fiber.join(both)
    yield* TestClock.adjust("1 seconds")
    assert.match(lines[3]!, /^no longer waiting for the broker, after 2m 2\ds$/)
    assert.lengthOf(lines, 4)
    assert.deepStrictEqual(reports, ["connection refused", undefined])
    assert.strictEqual(yield* stalled, 0)
  }))

it.scoped("reports a step without an answer within ten seconds, and no short step", () =>
  Effect.gen(function*() {
    const { lines, reports, step } = yield* make
    const answer = yield* Deferred.make<void>()
    yield* step("quick", always)(Effect.sleep("2 seconds"))
      .pipe(Effect.fork, Effect.tap(() => TestClock.adjust("2 seconds")), Effect.flatMap(Fiber.join))
    yield* TestClock.adjust("2 seconds")
    assert.deepStrictEqual(reports, [])
    const slow = yield* Effect.fork(step("slow", always)(Deferred.await(answer)))
    yield* TestClock.adjust("9 seconds")
    assert.deepStrictEqual(reports, ["no answer from the broker yet"])
    yield* Deferred.succeed(answer, undefined)
    yield* Fiber.join(slow)
    yield* TestClock.adjust("1 seconds")
    assert.deepStrictEqual(reports, ["no answer from the broker yet", undefined])
    assert.lengthOf(lines, 2)
  }))

it.scoped("a step that may not continue fails as its last attempt did and is no longer reported", () =>
  Effect.gen(function*() {
    const { reports, step } = yield* make
    const theirs = new Error("no such topic")
    let may = true
    const left = yield* Effect.fork(Effect.flip(step("a/0", () => may)(Effect.fail(theirs))))
    const interrupted = yield* Effect.fork(step("a/1", always)(Effect.fail(theirs)))
    yield* TestClock.adjust("3 seconds")
    assert.deepStrictEqual(reports, ["no such topic"])
    may = false
    yield* Fiber.interrupt(interrupted)
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(yield* Fiber.join(left), theirs)
    yield* TestClock.adjust("1 seconds")
    assert.deepStrictEqual(reports, ["no such topic", undefined])
  }))

it.effect("a defect of the report ends the watch", () =>
  Effect.gen(function*() {
    const { step, watch } = yield* Waiting.make(
      { service: "test", for: "the broker", report: () => Effect.die("bug") },
      Schedule.spaced("5 seconds")
    )
    const waiting = yield* Effect.fork(step("a/0", always)(Effect.never))
    const watching = yield* Effect.fork(Effect.exit(watch))
    yield* TestClock.adjust("10 seconds")
    assert.isTrue(Exit.isFailure(yield* Fiber.join(watching)))
    yield* Fiber.interrupt(waiting)
  }))
