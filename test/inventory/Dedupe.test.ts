import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Either, Layer, Logger, LogLevel, Queue, Redacted, Schedule } from "effect"
import { Redis as Client } from "ioredis"
import { randomUUID } from "node:crypto"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { settings } from "../../src/Config.js"
import { OrderId } from "../../src/domain/Payment.js"
import type { RedisUnavailable } from "../../src/infra/redis/Redis.js"
import { Redis } from "../../src/infra/redis/Redis.js"
import { Dedupe } from "../../src/inventory/Dedupe.js"
import * as Stack from "../../src/local/Stack.js"
import * as Proxy from "../harness/Proxy.js"

const ttl = Either.getOrThrow(settings.dedupeTtl.parse(settings.dedupeTtl.default))
const nameOf = (key: string) => `payments:inventory:${key}`
const seen = (orderId = OrderId.make(9007199254740993n)) => ({ idempotentKey: randomUUID(), orderId })

/** A second client, beside the one under test. */
const beside = (url: string) =>
  Effect.acquireRelease(Effect.sync(() => new Client(url)), (redis) => Effect.sync(() => redis.disconnect()))

/** Dedupe on a Redis, with its log lines and its reports: undefined when Redis is available, otherwise the reason. */
const make = (url: string, timeToLive: Duration.DurationInput = ttl) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const changes = yield* Queue.unbounded<string | undefined>()
    const logger = Logger.make(({ message }) => void lines.push([message].flat().map(String).join(" ")))
    const redis = Redis.layer({
      url: Redacted.make(url),
      onChange: (problem) => {
        lines.push(problem === undefined ? "redis answers" : `redis is away: ${problem}`)
        return Effect.asVoid(Queue.offer(changes, problem))
      }
    })
    const context = yield* Layer.build(
      Dedupe.layer({ ttl: timeToLive }).pipe(
        Layer.provide(redis),
        Layer.provide(Logger.replace(Logger.defaultLogger, logger)),
        Layer.provide(Logger.minimumLogLevel(LogLevel.All))
      )
    )
    return { dedupe: yield* Effect.provide(Dedupe, context), changes, lines }
  })

const connected = (url: string, timeToLive?: Duration.DurationInput) =>
  Effect.tap(
    make(url, timeToLive),
    ({ changes }) => Effect.map(Queue.take(changes), (problem) => assert.isUndefined(problem))
  )

/** A separate Redis that tests may kill. */
const ownRedis = Stack.start({
  folder: join(tmpdir(), `payments-redis-${randomUUID()}`),
  cache: fileURLToPath(new URL("../../.local/cache", import.meta.url)),
  ports: { postgres: 0, redis: 0, kafka: 0 },
  parts: ["redis"],
  throwaway: true
}).pipe(
  Effect.map(({ parts, redisUrl }) => ({ url: redisUrl!, pid: parts.redis!.pid })),
  Effect.provide(NodeContext.layer)
)

const signal = (pid: number, name: NodeJS.Signals) => Effect.sync(() => process.kill(pid, name))

/** Ends when it answers. */
const again = <A, E>(use: Effect.Effect<A, E>) =>
  Effect.retry(use, Schedule.spaced("20 millis")).pipe(Effect.timeout("20 seconds"))

/** Asserts that it fails with `RedisUnavailable` quickly. */
const isAway = <A>(use: Effect.Effect<A, RedisUnavailable>) =>
  Effect.flip(use).pipe(
    Effect.tap((error) => assert.strictEqual(error._tag, "RedisUnavailable")),
    Effect.timeout("5 seconds")
  )

describe("Dedupe", () => {
  it.scopedLive("remembers the order of a key, also beyond 2^53", () =>
    Effect.gen(function*() {
      const { dedupe } = yield* connected(inject("redisUrl"))
      const known = [seen(), seen(OrderId.make(1n)), seen(OrderId.make(2n ** 63n - 1n))]
      const keys = [...known.map((_) => _.idempotentKey), randomUUID()]
      assert.strictEqual((yield* dedupe.lookup(keys)).size, 0)
      yield* dedupe.remember(known)
      assert.deepStrictEqual(
        yield* dedupe.lookup(keys),
        new Map(known.map(({ idempotentKey, orderId }) => [idempotentKey, orderId]))
      )
      assert.strictEqual((yield* dedupe.lookup([])).size, 0)
      yield* dedupe.remember([])
    }))

  it.scopedLive("the key has this name, this value and lives seven days", () =>
    Effect.gen(function*() {
      const { dedupe } = yield* connected(inject("redisUrl"))
      const redis = yield* beside(inject("redisUrl"))
      const one = seen()
      yield* dedupe.remember([one])
      const week = Duration.toMillis("7 days")
      const [value, left] = yield* Effect.promise(() =>
        Promise.all([redis.get(`payments:inventory:${one.idempotentKey}`), redis.pttl(nameOf(one.idempotentKey))])
      )
      assert.strictEqual(value, "9007199254740993")
      assert.isTrue(left > week - 60_000 && left <= week, `${left} ms`)
    }))

  it.scopedLive("a key is forgotten after its time to live", () =>
    Effect.gen(function*() {
      const { dedupe } = yield* connected(inject("redisUrl"), "1.5 millis")
      const redis = yield* beside(inject("redisUrl"))
      const one = seen()
      yield* dedupe.remember([one])
      yield* Effect.promise(() => redis.exists(nameOf(one.idempotentKey))).pipe(
        Effect.repeat({ until: (there) => there === 0 }),
        Effect.timeout("5 seconds")
      )
      assert.strictEqual((yield* dedupe.lookup([one.idempotentKey])).size, 0)
    }))

  it.scopedLive("bare keys of other services are neither read nor changed", () =>
    Effect.gen(function*() {
      const { dedupe } = yield* connected(inject("redisUrl"))
      const redis = yield* beside(inject("redisUrl"))
      const one = seen()
      yield* Effect.promise(() => redis.set(one.idempotentKey, "7", "EX", 100))
      assert.strictEqual((yield* dedupe.lookup([one.idempotentKey])).size, 0)
      yield* dedupe.remember([one])
      const [value, left] = yield* Effect.promise(() =>
        Promise.all([redis.get(one.idempotentKey), redis.ttl(one.idempotentKey)])
      )
      assert.strictEqual(value, "7")
      assert.isTrue(left > 90 && left <= 100)
      yield* Effect.promise(() => redis.del(one.idempotentKey))
      assert.strictEqual((yield* dedupe.lookup([one.idempotentKey])).get(one.idempotentKey), one.orderId)
    }))

  it.scopedLive("an unreadable value under our key counts as forgotten and is replaced", () =>
    Effect.gen(function*() {
      const { dedupe } = yield* connected(inject("redisUrl"))
      const redis = yield* beside(inject("redisUrl"))
      const values = [
        "",
        "x",
        "1.0",
        "-1",
        "0",
        "00",
        "9223372036854775808",
        "1".repeat(400),
        " 1",
        "1\n",
        "{}",
        "\u0000"
      ]
      for (const value of values) {
        const one = seen()
        yield* Effect.promise(() => redis.set(nameOf(one.idempotentKey), value))
        assert.strictEqual((yield* dedupe.lookup([one.idempotentKey])).size, 0, JSON.stringify(value))
        yield* dedupe.remember([one])
        assert.strictEqual((yield* dedupe.lookup([one.idempotentKey])).get(one.idempotentKey), one.orderId)
      }
    }))

  it.scopedLive("a key of another type counts as forgotten and is replaced", () =>
    Effect.gen(function*() {
      const { dedupe } = yield* connected(inject("redisUrl"))
      const redis = yield* beside(inject("redisUrl"))
      const [list, hash, good] = [seen(), seen(), seen()] as const
      const keys = [list, hash, good].map((_) => _.idempotentKey)
      yield* dedupe.remember([good])
      yield* Effect.promise(() => redis.lpush(nameOf(list.idempotentKey), "1"))
      yield* Effect.promise(() => redis.hset(nameOf(hash.idempotentKey), "1", "1"))
      assert.deepStrictEqual([...(yield* dedupe.lookup(keys)).keys()], [good.idempotentKey])
      yield* dedupe.remember([list, hash])
      assert.strictEqual((yield* dedupe.lookup(keys)).size, 3)
    }))

  it.scopedLive("evicted or flushed keys are forgotten, without an error", () =>
    Effect.gen(function*() {
      const { url } = yield* ownRedis
      const { dedupe } = yield* connected(url)
      const redis = yield* beside(url)
      const [one, other] = [seen(), seen()]
      const keys = [one.idempotentKey, other.idempotentKey]
      yield* dedupe.remember([one, other])
      yield* Effect.promise(() => redis.del(nameOf(one.idempotentKey)))
      assert.deepStrictEqual([...(yield* dedupe.lookup(keys)).keys()], [other.idempotentKey])
      yield* Effect.promise(() => redis.flushall())
      assert.strictEqual((yield* dedupe.lookup(keys)).size, 0)
      // full without eviction: refuses writes, answers reads
      yield* Effect.promise(() => redis.config("SET", "maxmemory", "1"))
      yield* isAway(dedupe.remember([one]))
    }))

  it.scopedLive("Redis down: calls fail at once, one report, and it recovers by itself", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.make(inject("redisUrl"))
      const { changes, dedupe, lines } = yield* connected(proxy.url)
      const one = seen()
      yield* dedupe.remember([one])
      const before = yield* proxy.accepted
      yield* proxy.set("refuse")
      assert.isString(yield* Queue.take(changes))
      yield* Effect.forEach(Array.from({ length: 50 }), () => isAway(dedupe.lookup([one.idempotentKey])))
      // several attempts to connect, and still one report
      yield* Effect.repeat(proxy.accepted, { until: (n) => n >= before + 3, schedule: Schedule.spaced("10 millis") })
        .pipe(
          Effect.timeout("15 seconds")
        )
      yield* proxy.set("pass")
      assert.isUndefined(yield* Effect.timeout(Queue.take(changes), "15 seconds"))
      assert.strictEqual((yield* dedupe.lookup([one.idempotentKey])).size, 1)
      assert.deepStrictEqual(lines.map((line) => line.replace(/:.*/, "")), [
        "redis answers",
        "redis is away",
        "redis answers"
      ])
      assert.strictEqual(yield* Queue.size(changes), 0)
    }))

  it.scopedLive("Redis killed with commands in flight: they fail quickly", () =>
    Effect.gen(function*() {
      const { pid, url } = yield* ownRedis
      const { changes, dedupe, lines } = yield* connected(url)
      yield* signal(pid, "SIGSTOP")
      const [first] = yield* Effect.all([
        isAway(dedupe.lookup([randomUUID()])),
        isAway(dedupe.remember([seen()])),
        signal(pid, "SIGKILL")
      ], { concurrency: "unbounded" })
      assert.strictEqual(first.message, "redis is not available")
      assert.isString(yield* Queue.take(changes))
      yield* isAway(dedupe.remember([seen()]))
      assert.lengthOf(lines.filter((line) => line.startsWith("redis is away")), 1)
    }))

  it.scopedLive("Redis never up: the layer builds without it, and each call fails", () =>
    Effect.gen(function*() {
      const { changes, dedupe, lines } = yield* make("redis://127.0.0.1:1")
      yield* isAway(dedupe.lookup([randomUUID()]))
      assert.isString(yield* Queue.take(changes))
      yield* isAway(dedupe.remember([seen()]))
      assert.lengthOf(lines, 1)
    }))

  it.scopedLive("Redis slow: one command waits, the next do not, and calls resume when it answers", () =>
    Effect.gen(function*() {
      const { pid, url } = yield* ownRedis
      const { changes, dedupe, lines } = yield* connected(url)
      const one = seen()
      yield* dedupe.remember([one])
      yield* signal(pid, "SIGSTOP")
      const [took] = yield* Effect.timed(isAway(dedupe.lookup([one.idempotentKey])))
      assert.isTrue(Duration.between(took, { minimum: "200 millis", maximum: "1 second" }), Duration.format(took))
      assert.include(yield* Queue.take(changes), "no answer in time")
      const [rest] = yield* Effect.timed(
        Effect.forEach(Array.from({ length: 100 }), () => isAway(dedupe.lookup([one.idempotentKey])))
      )
      assert.isTrue(Duration.lessThan(rest, "10 seconds"), Duration.format(rest))
      yield* signal(pid, "SIGCONT")
      const found = yield* again(dedupe.lookup([one.idempotentKey]))
      assert.strictEqual(found.size, 1)
      assert.isUndefined(yield* Queue.take(changes))
      assert.deepStrictEqual(lines, ["redis answers", "redis is away: no answer in time", "redis answers"])
    }))

  it.scopedLive("Redis paused for writes: keys that were not remembered in time do no harm", () =>
    Effect.gen(function*() {
      const { url } = yield* ownRedis
      const { dedupe } = yield* connected(url)
      const redis = yield* beside(url)
      const one = seen()
      yield* Effect.promise(() => redis.call("CLIENT", "PAUSE", "60000", "WRITE"))
      yield* isAway(dedupe.remember([one]))
      assert.strictEqual(yield* Effect.promise(() => redis.exists(nameOf(one.idempotentKey))), 0)
      yield* Effect.promise(() => redis.call("CLIENT", "UNPAUSE"))
      yield* again(dedupe.lookup([one.idempotentKey]))
    }))

  it.scopedLive("a connection whose peer vanished silently is replaced", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.make(inject("redisUrl"))
      const { dedupe } = yield* connected(proxy.url)
      const one = seen()
      yield* dedupe.remember([one])
      yield* proxy.lose
      yield* isAway(dedupe.lookup([one.idempotentKey]))
      const found = yield* again(dedupe.lookup([one.idempotentKey]))
      assert.strictEqual(found.size, 1)
    }))

  it.scopedLive("a connection whose peer vanished before it was ready is replaced", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.make(inject("redisUrl"))
      const { dedupe } = yield* connected(proxy.url)
      const one = seen()
      yield* dedupe.remember([one])
      const before = yield* proxy.accepted
      yield* proxy.set("stall")
      yield* proxy.cut
      yield* proxy.accepted.pipe(
        Effect.repeat({ until: (n) => n > before, schedule: Schedule.spaced("10 millis") }),
        Effect.timeout("15 seconds")
      )
      yield* proxy.lose
      yield* proxy.set("pass")
      assert.strictEqual((yield* again(dedupe.lookup([one.idempotentKey]))).size, 1)
    }))
})
