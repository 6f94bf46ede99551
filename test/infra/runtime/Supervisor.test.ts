import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Data, Deferred, Effect, Exit, Fiber, Logger, Metric, Option, Ref, TestClock } from "effect"
import { make as makeHealth } from "../../../src/infra/runtime/Health.js"
import { ServiceGaveUp, supervise as superviseAs } from "../../../src/infra/runtime/Supervisor.js"

class Away extends Data.TaggedError("Away")<{ readonly message: string }> {}

const supervise = <E, R, F extends E = never>(
  name: string,
  run: Effect.Effect<never, E, R>,
  isFinal?: (error: E) => error is F
) => Effect.flatMap(makeHealth({ parts: {} }), (health) => superviseAs(health.part(name), run, isFinal))

const quiet = Effect.provide(Logger.remove(Logger.defaultLogger))

/** A service that records the times of its starts and then runs `then(start)`, with starts from 1. */
const noting = <E>(then: (start: number) => Effect.Effect<never, E>) =>
  Effect.gen(function*() {
    const starts = yield* Ref.make<ReadonlyArray<number>>([])
    const run = Clock.currentTimeMillis.pipe(
      Effect.flatMap((now) => Ref.updateAndGet(starts, (all) => [...all, now])),
      Effect.flatMap((all) => then(all.length))
    )
    return { run, starts: Ref.get(starts), count: Effect.map(Ref.get(starts), (all) => all.length) }
  })

const pauses = (starts: ReadonlyArray<number>) => starts.slice(1).map((start, i) => start - starts[i]!)

const restarts = (service: string) =>
  Effect.map(Metric.snapshot, (pairs) => {
    const found = pairs.find(({ metricKey }) =>
      metricKey.name === "payments_service_restarts_total" &&
      metricKey.tags.some(({ key, value }) => key === "part" && value === service)
    )
    return found === undefined ? 0 : Number((found.metricState as unknown as { readonly count: number }).count)
  })

describe("Supervisor", () => {
  it.effect("restarts a failing service without limit", () =>
    Effect.gen(function*() {
      const service = yield* noting(() => Effect.fail("away"))
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("20 minutes")
      assert.isAbove(yield* service.count, 90)
      assert.isNull(fiber.unsafePoll())
      yield* Fiber.interrupt(fiber)
    }).pipe(quiet))

  it.effect("the pause doubles from 250 ms to 10 s, each ±20 %, and stays there", () =>
    Effect.gen(function*() {
      const service = yield* noting(() => Effect.fail("away"))
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("10 minutes")
      pauses(yield* service.starts).forEach((pause, i) => {
        const middle = Math.min(250 * 2 ** i, 10_000)
        assert.isTrue(
          pause >= middle * 0.8 - 1 && pause <= middle * 1.2 + 1,
          `pause ${i} is ${pause} ms, not about ${middle} ms`
        )
      })
      yield* Fiber.interrupt(fiber)
    }).pipe(quiet))

  it.effect("the pauses begin again after a minute without failure", () =>
    Effect.gen(function*() {
      const service = yield* noting((start) =>
        start === 9 ? Effect.zipRight(Effect.sleep("61 seconds"), Effect.fail("away again")) : Effect.fail("away")
      )
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("10 minutes")
      const found = pauses(yield* service.starts)
      assert.isAtLeast(found[7]!, 8_000)
      assert.isAtMost(found[8]!, 61_000 + 301)
      yield* Fiber.interrupt(fiber)
    }).pipe(quiet))

  it.effect("does not touch a running service", () =>
    Effect.gen(function*() {
      const service = yield* noting((start) => start <= 3 ? Effect.fail("away") : Effect.never)
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* service.count, 4)
      yield* Fiber.interrupt(fiber)
    }).pipe(quiet))

  it.effect("gives up at the fifth defect and names the service", () =>
    Effect.gen(function*() {
      const bug = new Error("bug")
      const service = yield* noting(() => Effect.die(bug))
      const fiber = yield* Effect.fork(Effect.flip(supervise("outbox-relay", service.run)))
      yield* TestClock.adjust("1 minute")
      const error = yield* Fiber.join(fiber)
      assert.instanceOf(error, ServiceGaveUp)
      assert.strictEqual(error.service, "outbox-relay")
      assert.strictEqual(error.cause, bug)
      assert.strictEqual(yield* service.count, 5)
    }).pipe(quiet))

  it.effect("typed failures between defects do not reset the count", () =>
    Effect.gen(function*() {
      const service = yield* noting((start) => start % 2 === 0 ? Effect.die("bug") : Effect.fail("away"))
      const fiber = yield* Effect.fork(Effect.flip(supervise("s", service.run)))
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "ServiceGaveUp")
      assert.strictEqual(yield* service.count, 10)
    }).pipe(quiet, Effect.mapError(() => "never")))

  it.effect("forgets old defects", () =>
    Effect.gen(function*() {
      const service = yield* noting(() => Effect.zipRight(Effect.sleep("31 seconds"), Effect.die("bug")))
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("1 hour")
      assert.isAbove(yield* service.count, 80)
      assert.isNull(fiber.unsafePoll())
      yield* Fiber.interrupt(fiber)
    }).pipe(quiet))

  it.effect("gives up at five defects within the window at any pace", () =>
    Effect.gen(function*() {
      const service = yield* noting(() => Effect.zipRight(Effect.sleep("20 seconds"), Effect.die("bug")))
      const fiber = yield* Effect.fork(Effect.flip(supervise("s", service.run)))
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "ServiceGaveUp")
      assert.strictEqual(yield* service.count, 5)
    }).pipe(quiet))

  it.effect("fails at once with a final error", () =>
    Effect.gen(function*() {
      const service = yield* noting((start) => Effect.fail(start === 1 ? "away" as const : "final" as const))
      const fiber = yield* Effect.fork(
        Effect.flip(supervise("s", service.run, (error): error is "final" => error === "final"))
      )
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), "final")
      assert.strictEqual(yield* service.count, 2)
    }).pipe(quiet))

  it.effect("an interruption interrupts the service and is no failure", () =>
    Effect.gen(function*() {
      const before = yield* restarts("interrupted")
      const begun = yield* Deferred.make<void>()
      const closed = yield* Ref.make(false)
      const service = yield* noting(() =>
        Deferred.succeed(begun, undefined).pipe(
          Effect.zipRight(Effect.never),
          Effect.onInterrupt(() => Ref.set(closed, true))
        )
      )
      const fiber = yield* Effect.fork(supervise("interrupted", service.run))
      yield* Deferred.await(begun)
      const exit = yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause))
      assert.isTrue(yield* Ref.get(closed))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* service.count, 1)
      assert.strictEqual(yield* restarts("interrupted"), before)
    }).pipe(quiet))

  it.effect("does not restart a service that interrupts itself", () =>
    Effect.gen(function*() {
      const service = yield* noting(() => Effect.interrupt)
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("1 minute")
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause))
      assert.strictEqual(yield* service.count, 1)
    }).pipe(quiet))

  it.effect("an interruption ends a pause", () =>
    Effect.gen(function*() {
      const service = yield* noting(() => Effect.fail("away"))
      const fiber = yield* Effect.fork(supervise("s", service.run))
      yield* TestClock.adjust("5 minutes")
      const count = yield* service.count
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* service.count, count)
    }).pipe(quiet))

  it.effect("its part waits with the word of the server until it works, also between restarts, and ends stopped", () =>
    Effect.gen(function*() {
      const health = yield* makeHealth({ parts: { s: { roles: [] } } })
      const part = health.part("s")
      const shown = Effect.map(health.current(), ({ dependencies }) => {
        const { reason, state, waiting_for } = dependencies["s"]!
        return [state, waiting_for, reason]
      })
      const away = Object.assign(new Away({ message: "broker is away" }), { waitsFor: "kafka" as const })
      const service = yield* noting((start) =>
        start < 4
          ? Effect.delay(Effect.fail(away), "1 second")
          : Effect.zipRight(Effect.sync(part.working), Effect.never)
      )
      assert.deepStrictEqual(yield* shown, ["starting", undefined, "starting"])
      const fiber = yield* Effect.fork(superviseAs(part, service.run))
      yield* TestClock.adjust("900 millis")
      assert.deepStrictEqual(yield* shown, ["starting", undefined, "starting"])
      while ((yield* service.count) < 4) {
        yield* TestClock.adjust("100 millis")
        if ((yield* service.count) < 4) assert.deepStrictEqual(yield* shown, ["waiting", "kafka", "broker is away"])
      }
      assert.deepStrictEqual(yield* shown, ["working", undefined, undefined])
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* shown, ["stopped", undefined, "stopped"])
    }).pipe(quiet))

  it.effect("counts restarts; logs a bug with its cause, and leaves a failure to the health of the part", () =>
    Effect.gen(function*() {
      const before = yield* restarts("counted")
      const lines: Array<readonly [level: string, text: string, service: Option.Option<unknown>]> = []
      const notes = Logger.make(({ annotations, logLevel, message }) => {
        const service = Option.map(
          Option.fromIterable([...annotations].filter(([key]) => key === "part")),
          ([, value]) => value
        )
        lines.push([logLevel._tag, [message].flat().map(String).join(" "), service])
      })
      const service = yield* noting((start) =>
        start === 1
          ? Effect.fail(new Away({ message: "broker is away" }))
          : start === 2
          ? Effect.die(new Error("a bug"))
          : Effect.never
      )
      const fiber = yield* supervise("counted", service.run).pipe(
        Effect.provide(Logger.replace(Logger.defaultLogger, notes)),
        Effect.fork
      )
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* restarts("counted")) - before, 2)
      assert.deepStrictEqual(lines.map(([level, , service]) => [level, service]), [["Error", Option.some("counted")]])
      yield* Fiber.interrupt(fiber)
    }))
})
