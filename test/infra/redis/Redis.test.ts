import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it } from "@effect/vitest"
import type { Duration } from "effect"
import { Effect, Layer, Logger, Redacted, Schedule } from "effect"
import { Redis as Client } from "ioredis"
import { randomUUID } from "node:crypto"
import { mkdirSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { vi } from "vitest"
import { OrderId } from "../../../src/domain/Payment.js"
import { Redis } from "../../../src/infra/redis/Redis.js"
import { problemOf } from "../../../src/infra/redis/RedisProblem.js"
import { Dedupe } from "../../../src/inventory/Dedupe.js"
import * as Stack from "../../../src/local/Stack.js"
import { eventually } from "../../harness/Eventually.js"
import * as Proxy from "../../harness/Proxy.js"

const ownRedis = Effect.gen(function*() {
  const folder = join(tmpdir(), `payments-redis-${randomUUID()}`)
  const { redisUrl } = yield* Stack.start({
    folder,
    cache: fileURLToPath(new URL("../../../.local/cache", import.meta.url)),
    ports: { postgres: 0, redis: 0, kafka: 0 },
    parts: ["redis"],
    throwaway: true
  })
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => new Client(redisUrl!).on("error", () => {})),
    (redis) => Effect.sync(() => redis.disconnect())
  )
  const command = (name: string, ...args: ReadonlyArray<string>) => Effect.promise(() => client.call(name, ...args))
  return { url: redisUrl!, folder: join(folder, "redis", "data"), command } as const
}).pipe(Effect.provide(NodeContext.layer))

const make = (url: string) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const changes: Array<string | undefined> = []
    const redis = Redis.layer({
      url: Redacted.make(url),
      onChange: (problem) =>
        Effect.sync(() => {
          changes.push(problem)
          lines.push(problem === undefined ? "redis answers" : `redis is away: ${problem}`)
        })
    })
    const context = yield* Layer.build(
      Dedupe.layer({ ttl: "1 hour" }).pipe(
        Layer.provide(redis),
        Layer.provide(
          Logger.replace(
            Logger.defaultLogger,
            Logger.make(({ message }) => void lines.push([message].flat().join(" ")))
          )
        )
      )
    )
    const { lookup, remember } = yield* Effect.provide(Dedupe, context)
    const write = Effect.suspend(() => remember([{ idempotentKey: randomUUID(), orderId: OrderId.make(7n) }]))
    const answers = write.pipe(eventually("10 seconds"))
    const said = (count: number) => Effect.sync(() => assert.lengthOf(lines, count)).pipe(eventually("10 seconds"))
    /** Reads and writes like a busy consumer. */
    const busy = (time: Duration.DurationInput) =>
      Effect.zipRight(Effect.ignore(lookup([randomUUID()])), Effect.ignore(write)).pipe(
        Effect.repeat(Schedule.spaced("20 millis")),
        Effect.timeoutOption(time)
      )
    return { write, answers, said, busy, lines, changes } as const
  })

describe("Redis", () => {
  it.scopedLive("a defect of the report is logged, and the next connection is probed", () =>
    Effect.gen(function*() {
      const { command, url } = yield* ownRedis
      const lines: Array<string> = []
      const context = yield* Layer.build(Redis.layer({
        url: Redacted.make(url),
        onChange: () => Effect.dieMessage("a bug")
      })).pipe(
        Effect.provide(Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ message }) => void lines.push(String([message].flat()[0])))
        ))
      )
      const seen = (check: () => void) => Effect.sync(check).pipe(eventually("10 seconds"))
      yield* seen(() => assert.include(lines, "a bug ended the probe of redis"))
      let probes = 0
      const { judgeBy } = yield* Effect.provide(Redis, context)
      yield* judgeBy((redis) => {
        probes++
        return redis.ping()
      })
      yield* command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
      yield* seen(() => assert.strictEqual(probes, 1))
    }), 60_000)

  it.scopedLive(
    "replaces a connection that a failover has left on a replica",
    () =>
      Effect.gen(function*() {
        const [old, next] = yield* Effect.all([ownRedis, ownRedis], { concurrency: "unbounded" })
        const proxy = yield* Proxy.make(old.url)
        const { answers, changes, lines, write } = yield* make(proxy.url)
        yield* answers
        const { hostname, port } = new URL(next.url)
        yield* proxy.lead(next.url)
        yield* old.command("REPLICAOF", hostname, port)
        yield* Effect.flip(write)
        yield* answers
        assert.isAbove(Number(yield* next.command("DBSIZE")), 0)
        assert.deepStrictEqual(lines.map((line) => line.slice(0, 22)), [
          "redis answers",
          "redis is away: READONL",
          "redis answers"
        ])
        assert.match(changes[1]!, /^READONLY/)
      }),
    60_000
  )

  it.scopedLive(
    "a server that refuses writes is away, reported once, until it takes them again",
    () =>
      Effect.gen(function*() {
        const { command, folder, url } = yield* ownRedis
        mkdirSync(join(folder, "taken"))
        const full = Effect.gen(function*() {
          yield* command("CONFIG", "SET", "dbfilename", "taken")
          yield* command("CONFIG", "SET", "save", "3600 1")
          yield* command("BGSAVE")
          yield* Effect.tap(command("INFO", "persistence"), (info) => assert.match(String(info), /status:err/)).pipe(
            eventually("15 seconds")
          )
        })
        const cases: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>, Effect.Effect<unknown>]> = [
          ["READONLY", command("REPLICAOF", "127.0.0.1", "1"), command("REPLICAOF", "NO", "ONE")],
          ["OOM", command("CONFIG", "SET", "maxmemory", "1"), command("CONFIG", "SET", "maxmemory", "0")],
          [
            "NOREPLICAS",
            command("CONFIG", "SET", "min-replicas-to-write", "1"),
            command("CONFIG", "SET", "min-replicas-to-write", "0")
          ],
          ["NOPERM", command("ACL", "SETUSER", "default", "-eval"), command("ACL", "SETUSER", "default", "+eval")],
          ["MISCONF", full, command("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")]
        ]
        yield* Effect.forEach(cases, ([code, begin, end]) =>
          Effect.gen(function*() {
            const { answers, busy, changes, lines, said } = yield* make(url)
            yield* answers
            yield* said(1)
            yield* begin
            yield* busy("1500 millis")
            yield* end
            yield* answers
            yield* said(3)
            assert.deepStrictEqual(lines.map((line) => line.split(" ").slice(0, 4).join(" ")), [
              "redis answers",
              `redis is away: ${code}`,
              "redis answers"
            ])
            assert.deepStrictEqual(changes.map((problem) => problem?.split(" ")[0]), [undefined, code, undefined])
          }).pipe(Effect.scoped), { discard: true })
      }),
    120_000
  )

  it.scopedLive(
    "an unused password and a missing right to INFO do no harm, a wrong password is reported once, the console stays empty",
    () =>
      Effect.gen(function*() {
        const spies = (["log", "info", "warn", "error", "debug"] as const).map((name) => vi.spyOn(console, name))
        yield* Effect.addFinalizer(() => Effect.sync(() => spies.forEach((spy) => spy.mockRestore())))
        const { command, url } = yield* ownRedis
        const as = (who: string) => url.replace("redis://", `redis://${who}@`)
        const needless = yield* make(as(":needless"))
        yield* needless.answers
        yield* needless.said(2)
        assert.sameMembers(needless.lines, [
          "redis requires no password: the password of the settings is not used",
          "redis answers"
        ])
        yield* command("ACL", "SETUSER", "few", "on", ">right", "~payments:inventory:*", "+mget", "+eval", "+set")
        const few = yield* make(as("few:right"))
        yield* few.answers
        yield* few.said(1)
        assert.deepStrictEqual(few.lines, ["redis answers"])
        const wrong = yield* make(as("few:secret-that-is-wrong"))
        yield* wrong.busy("1 second")
        assert.lengthOf(wrong.lines, 1)
        assert.match(wrong.lines[0]!, /^redis is away: WRONGPASS/)
        assert.notInclude(wrong.lines[0]!, "secret")
        yield* command("ACL", "SETUSER", "few", ">secret-that-is-wrong")
        yield* wrong.answers
        yield* wrong.said(2)
        for (const spy of spies) assert.deepStrictEqual(spy.mock.calls, [])
      }),
    60_000
  )

  it("a problem has the code and text of the server, without a command's arguments", () => {
    const reply = (message: string) => problemOf(Object.assign(new Error(message), { name: "ReplyError" }))
    for (const code of ["READONLY", "LOADING", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS"]) {
      assert.deepStrictEqual(reply(`${code} it is so`), { code, reason: `${code} it is so`, elsewhere: true })
    }
    for (const code of ["MISCONF", "OOM", "NOAUTH", "WRONGPASS", "NOPERM", "EXECABORT", "BUSY"]) {
      const { reason, ...rest } = reply(`${code} it is so`)
      assert.deepStrictEqual(rest, { code, elsewhere: false })
      // some have an advice behind them
      assert.isTrue(reason.startsWith(`${code} it is so`))
    }
    for (
      const message of [
        "MOVED 3999 127.0.0.1:6381",
        "ASK 3999 127.0.0.1:6381",
        "CROSSSLOT Keys in request",
        "CLUSTERDOWN no"
      ]
    ) {
      assert.match(reply(message).reason, /^[A-Z]+: REDIS_URL points to a cluster node/)
    }
    assert.deepStrictEqual(
      reply("ERR Error running script (call to f_1f): @user_script:2: @user_script: 2: -OOM command not allowed."),
      { code: "OOM", reason: "OOM command not allowed.", elsewhere: false }
    )
    assert.match(
      reply("ERR unknown command `eval`, with args beginning with: `for`, `payments:inventory:1`").reason,
      /^ERR unknown command `eval`: REDIS_URL points to a Sentinel, or to a Redis with `rename-command`\?[^`]*$/
    )
    assert.deepStrictEqual(problemOf(Object.assign(new AggregateError([]), { code: "ECONNREFUSED" })), {
      code: "",
      reason: "ECONNREFUSED",
      elsewhere: false
    })
  })
})
