import { assert, describe, it } from "@effect/vitest"
import { Data, Deferred, Effect, Exit, Fiber, Logger, Metric, MetricState, Ref, Schedule, TestClock } from "effect"
import { make as makeHealth } from "../../../src/infra/runtime/Health.js"
import type { Problem } from "../../../src/infra/runtime/Problem.js"

class Refused extends Data.TaggedError("Refused")<{ readonly message: string }> {}

const always = () => true
const pauses = Schedule.spaced("5 seconds")
const refused = { reason: "kafka", why: "connection refused" } as const

/** Health of these parts with its log lines; `watch` runs. */
const make = Effect.gen(function*() {
  const lines: Array<string> = []
  const health = yield* makeHealth({
    parts: {
      consumer: { roles: ["consumer"], reasons: ["kafka", "no_progress"] },
      relay: { roles: ["relay"] },
      listener: { roles: ["relay"], required: false },
      server: { roles: ["grpc"] }
    },
    where: { kafka: "kafka-1:9092" }
  })
  yield* health.watch.pipe(
    Effect.provide(Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ annotations, message }) =>
        void lines.push(
          [...[message].flat(), ...[...annotations].map(([name, value]) => `${name}=${value}`).sort()].join(" ")
        )
      )
    )),
    Effect.forkScoped
  )
  const [consumer, relay, listener, server] = [
    health.part("consumer"),
    health.part("relay"),
    health.part("listener"),
    health.part("server")
  ]
  for (const part of [consumer, relay, listener, server]) part.working()
  const shown = (name: string) => Effect.map(health.current(), ({ dependencies }) => dependencies[name]!)
  return { ...health, consumer, relay, listener, server, lines, shown }
})

/** The value of a gauge of a part; undefined when the series does not exist. */
const gauge = (name: string, part: string, reason?: string) =>
  Effect.map(Metric.snapshot, (pairs) =>
    pairs.flatMap(({ metricKey, metricState }) => {
      const tags = Object.fromEntries(Array.from(metricKey.tags, ({ key, value }) => [key, value]))
      return metricKey.name === name && MetricState.isGaugeState(metricState) && tags["part"] === part &&
          tags["reason"] === reason
        ? [Number(metricState.value)]
        : []
    })[0])

describe("Health", () => {
  it.scoped("a part starts, works, waits and stops; since is when its state began, not when it was last reported", () =>
    Effect.gen(function*() {
      const health = yield* makeHealth({ parts: { broker: { roles: [] } } })
      const part = health.part("broker")
      const shown = Effect.map(health.current(), ({ dependencies }) => {
        const { ok, reason, since, state } = dependencies["broker"]!
        return { ok, reason, since: Date.parse(since), state }
      })
      assert.deepStrictEqual(yield* shown, { ok: false, reason: "starting", since: 0, state: "starting" })
      yield* TestClock.setTime(1_000)
      part.failed({ reason: "kafka", why: "away" })
      yield* TestClock.setTime(2_000)
      part.failed({ reason: "kafka", why: "still away" })
      assert.deepStrictEqual(yield* shown, { ok: false, reason: "still away", since: 1_000, state: "waiting" })
      yield* TestClock.setTime(3_000)
      part.working()
      assert.deepStrictEqual(yield* shown, { ok: true, reason: undefined, since: 3_000, state: "working" })
      yield* TestClock.setTime(4_000)
      part.stopped()
      assert.deepStrictEqual(yield* shown, { ok: false, reason: "stopped", since: 4_000, state: "stopped" })
    }))

  it.scoped("a role is ready without the parts of the others; an optional part is shown and does not count", () =>
    Effect.gen(function*() {
      const { consumer, current, listener, relay } = yield* make
      const ready = Effect.all([current(), current("consumer"), current("relay"), current("grpc")]).pipe(
        Effect.map((all) => all.map(({ ready }) => ready))
      )
      assert.deepStrictEqual(yield* ready, [true, true, true, true])
      listener.failed(refused)
      assert.deepStrictEqual(yield* ready, [true, true, true, true])
      consumer.failed(refused)
      assert.deepStrictEqual(yield* ready, [false, false, true, true])
      relay.failed(refused)
      assert.deepStrictEqual(yield* ready, [false, false, false, true])
      const { dependencies } = yield* current("relay")
      assert.deepStrictEqual(Object.keys(dependencies), ["listener", "relay"])
      assert.isTrue((yield* current()).started)
    }))

  it.scoped("a process has started when every required part has worked once, and then for ever", () =>
    Effect.gen(function*() {
      const { current, part } = yield* makeHealth({ parts: { a: { roles: [] }, b: { roles: [] } } })
      part("a").working()
      part("b").failed(refused)
      assert.isFalse((yield* current()).started)
      part("b").working()
      part("a").failed(refused)
      const { ready, started } = yield* current()
      assert.deepStrictEqual([ready, started], [false, true])
    }))

  it.scoped("an attempt that begins changes nothing: the part waits until one succeeds", () =>
    Effect.gen(function*() {
      const { consumer, shown } = yield* make
      const there = yield* Ref.make(false)
      const attempt = Effect.zipRight(Effect.sleep("2 seconds"), Ref.get(there)).pipe(
        Effect.filterOrFail((there) => there, () => ({ message: "connection refused" }))
      )
      const step = yield* Effect.fork(consumer.step("kafka", "a/0", always, pauses)(attempt))
      yield* TestClock.adjust("4 seconds")
      const states = new Set<string>()
      for (let i = 0; i < 40; i++) {
        const { since, state } = yield* shown("consumer")
        states.add(`${state} ${since}`)
        yield* TestClock.adjust("500 millis")
      }
      assert.deepStrictEqual([...states], [`waiting ${new Date(0).toISOString()}`])
      yield* Ref.set(there, true)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(step)
      assert.isTrue((yield* shown("consumer")).ok)
    }))

  it.scoped("logs a wait for a server once for all parts: at its start, once a minute, and at its end with its time", () =>
    Effect.gen(function*() {
      const { consumer, lines, relay, shown } = yield* make
      const there = yield* Ref.make(false)
      const attempts = yield* Ref.make(0)
      const attempt = Ref.update(attempts, (n) => n + 1).pipe(
        Effect.zipRight(Ref.get(there)),
        Effect.filterOrFail((there) => there, () => ({ message: "connection refused" }))
      )
      const all = yield* Effect.fork(Effect.all([
        consumer.step("kafka", "a/0", always, pauses)(attempt),
        consumer.step("kafka", "a/1", always, pauses)(attempt),
        relay.step("kafka", "sending events", always, pauses)(attempt)
      ], { concurrency: "unbounded" }))
      yield* TestClock.adjust("10 seconds")
      const fields = (seconds: number) =>
        `parts=consumer, relay reason=kafka seconds=${seconds} waiting=a/0, a/1, sending events`
      assert.deepStrictEqual(lines, [`waiting for kafka at kafka-1:9092: connection refused ${fields(1)}`])
      assert.strictEqual(yield* gauge("payments_stalled", "consumer", "kafka"), 2)
      assert.strictEqual(yield* gauge("payments_stalled", "relay", "kafka"), 1)
      assert.strictEqual(yield* gauge("payments_ready", "relay"), 0)
      assert.include(yield* shown("relay"), { state: "waiting", waiting_for: "kafka", reason: "connection refused" })
      yield* TestClock.adjust("130 seconds")
      assert.isAbove(yield* Ref.get(attempts), 75)
      assert.deepStrictEqual(lines.slice(1), [
        `still waiting for kafka at kafka-1:9092, for 1m 1s: connection refused ${fields(61)}`,
        `still waiting for kafka at kafka-1:9092, for 2m 1s: connection refused ${fields(121)}`
      ])
      yield* Ref.set(there, true)
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(all)
      assert.match(lines[3]!, /^no longer waiting for kafka at kafka-1:9092, after 2m 2\ds reason=kafka seconds=14\d$/)
      assert.lengthOf(lines, 4)
      assert.strictEqual(yield* gauge("payments_stalled", "consumer", "kafka"), 0)
      assert.strictEqual(yield* gauge("payments_ready", "relay"), 1)
    }))

  it.scoped("reports work without an answer within ten seconds, and no short work", () =>
    Effect.gen(function*() {
      const { consumer, lines, shown } = yield* make
      const answer = yield* Deferred.make<void>()
      yield* consumer.step("kafka", "quick", always, pauses)(Effect.sleep("2 seconds"))
        .pipe(Effect.fork, Effect.tap(() => TestClock.adjust("2 seconds")), Effect.flatMap(Fiber.join))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(lines, [])
      const slow = yield* Effect.fork(consumer.step("kafka", "slow", always, pauses)(Deferred.await(answer)))
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual((yield* shown("consumer")).reason, "slow: no answer for 9s")
      yield* Deferred.succeed(answer, undefined)
      yield* Fiber.join(slow)
      yield* TestClock.adjust("1 seconds")
      assert.lengthOf(lines, 2)
    }))

  it.scoped("work that stands still because of a known failure is not a second reason", () =>
    Effect.gen(function*() {
      const { consumer, lines, shown } = yield* make
      const [failing, standing] = [consumer.begin("kafka", "a/0"), consumer.begin("no_progress", "partition 0")]
      consumer.stuck(failing, refused)
      yield* TestClock.adjust("7 seconds")
      consumer.postponed("progress", { reason: "no_progress", why: "a batch is in progress" })
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* shown("consumer")).reason, "connection refused")
      assert.lengthOf(lines, 1)
      consumer.end(failing)
      yield* TestClock.adjust("4 seconds")
      assert.isTrue((yield* shown("consumer")).ok)
      assert.lengthOf(lines, 2)
      yield* TestClock.adjust("2 seconds")
      assert.include(yield* shown("consumer"), { state: "waiting", waiting_for: "no_progress" })
      consumer.end(standing)
      consumer.reached("progress")
      assert.isTrue((yield* shown("consumer")).ok)
    }))

  it.scoped("a step that may not continue fails as its last attempt did, and is no longer reported", () =>
    Effect.gen(function*() {
      const { consumer, shown } = yield* make
      const theirs = new Error("no such topic")
      let may = true
      const left = yield* Effect.fork(
        Effect.flip(consumer.step("kafka", "a/0", () => may, pauses)(Effect.fail(theirs)))
      )
      const interrupted = yield* Effect.fork(consumer.step("kafka", "a/1", always, pauses)(Effect.fail(theirs)))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* shown("consumer")).reason, "no such topic")
      may = false
      yield* Fiber.interrupt(interrupted)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(left), theirs)
      assert.isTrue((yield* shown("consumer")).ok)
    }))

  it.scoped("a postponed problem lasts until its work succeeds, or for the time that was given", () =>
    Effect.gen(function*() {
      const { relay, shown } = yield* make
      const topic: Problem = { reason: "topic", why: "topic payment does not exist" }
      relay.postponed("payment", topic, 10_000)
      assert.strictEqual((yield* shown("relay")).waiting_for, "topic")
      yield* TestClock.adjust("9 seconds")
      assert.isFalse((yield* shown("relay")).ok)
      yield* TestClock.adjust("2 seconds")
      assert.isTrue((yield* shown("relay")).ok)
      relay.postponed("payment", topic, 10_000)
      relay.reached("payment")
      assert.isTrue((yield* shown("relay")).ok)
    }))

  it.scoped("a probe is asked without requests; the first failure is told within seconds", () =>
    Effect.gen(function*() {
      const away = yield* Ref.make(false)
      const lines: Array<string> = []
      const health = yield* makeHealth({
        parts: {
          postgres: {
            roles: [],
            probe: Effect.flatMap(
              Ref.get(away),
              (away) => away ? Effect.fail(new Refused({ message: "refused" })) : Effect.void
            )
          }
        }
      })
      yield* health.watch.pipe(
        Effect.provide(
          Logger.replace(Logger.defaultLogger, Logger.make(({ message }) => void lines.push(String(message))))
        ),
        Effect.forkScoped
      )
      yield* TestClock.adjust("10 seconds")
      assert.isTrue((yield* health.current()).ready)
      yield* Ref.set(away, true)
      yield* TestClock.adjust("7 seconds")
      assert.lengthOf(lines, 1)
    }))

  it.scoped("the series of a part exist from the start", () =>
    Effect.gen(function*() {
      yield* makeHealth({ parts: { fresh: { roles: [], reasons: ["postgres"] } } })
      assert.strictEqual(yield* gauge("payments_stalled", "fresh", "postgres"), 0)
      assert.strictEqual(yield* gauge("payments_ready", "fresh"), 0)
      assert.isUndefined(yield* gauge("payments_stalled", "fresh", "kafka"))
    }))

  it.effect("a part that was not declared is shown and not required", () =>
    Effect.gen(function*() {
      const health = yield* makeHealth({ parts: {} })
      health.part("extra").failed(refused)
      const { dependencies, ready } = yield* health.current()
      assert.isTrue(ready)
      assert.include(dependencies["extra"], { ok: false, required: false })
    }))

  it.effect("a defect of a probe ends the watch", () =>
    Effect.gen(function*() {
      const health = yield* makeHealth({ parts: { a: { roles: [], probe: Effect.die("bug") } } })
      const watching = yield* Effect.fork(Effect.exit(health.watch))
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(Exit.isFailure(yield* Fiber.join(watching)))
    }))
})
