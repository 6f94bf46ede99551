import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { Redis } from "ioredis"
import { eventually } from "../harness/Eventually.js"
import * as Proxy from "../harness/Proxy.js"
import * as Restartable from "../harness/Restartable.js"
import * as Saga from "./Saga.js"

/** Redis of our own, behind a proxy, and services that are ready. */
const make = Effect.gen(function*() {
  const redis = yield* Restartable.make("redis")
  const proxy = yield* Proxy.make(redis.url)
  const saga = yield* Saga.make({ servers: { redisUrl: redis.url }, env: { REDIS_URL: proxy.url } })
  const program = yield* saga.serve()
  yield* program.untilReady
  const command = (name: string, ...args: ReadonlyArray<string>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => new Redis(redis.url).on("error", () => {})),
      (client) => Effect.promise(() => client.call(name, ...args)),
      (client) => Effect.sync(() => client.disconnect())
    )
  return { ...redis, proxy, saga, program, command } as const
})

type Ground = Effect.Effect.Success<typeof make>

class WithRedis extends Context.Tag("test/WithRedis")<WithRedis, Ground>() {}

/** While something is in force orders go on as ever, and afterwards Redis is used again. */
const outlives = Effect.fnUntraced(function*(
  begin: (redis: Ground) => Effect.Effect<unknown, unknown>,
  end: (redis: Ground) => Effect.Effect<unknown, unknown> = () => Effect.void
) {
  const ground = yield* WithRedis
  const { command, program, saga } = ground
  const remembered = Effect.map(command("DBSIZE"), Number)
  const said = program.stderr().length
  yield* saga.outlives(Effect.gen(function*() {
    yield* begin(ground)
    yield* saga.more(100)
    yield* end(ground)
    const before = yield* remembered
    yield* Effect.tap(remembered, (now) => assert.isAbove(now, before)).pipe(eventually("60 seconds"))
    yield* Effect.tap(program.readiness, ({ dependencies }) => assert.isTrue(dependencies["redis"]?.ok)).pipe(
      eventually("60 seconds")
    )
  }))
  // never a reason to start the consumer again, or to hold up a batch; what else is slow here is not the matter
  for (const line of program.stderr().slice(said).split("\n")) {
    if (/redis/i.test(line)) assert.notMatch(line, /starting the service again|waiting for/)
  }
})

layer(Layer.scoped(WithRedis, make), { timeout: "120 seconds", excludeTestServices: true })("P1: Redis", (it) => {
  it.effect("Redis is gone, and comes back", () => outlives(({ crash }) => crash, ({ start }) => start), 240_000)

  it.effect("Redis restarts", () => outlives(({ restart }) => restart), 240_000)

  it.effect("Redis forgets everything", () => outlives(({ command }) => command("FLUSHALL")), 240_000)

  it.effect(
    "Redis takes 5 s for each command",
    () => outlives(({ proxy }) => proxy.set({ delayMillis: 5_000 }), ({ proxy }) => proxy.set("pass")),
    240_000
  )

  it.effect("Redis is out of memory, and may not evict", () =>
    outlives(
      ({ command }) =>
        Effect.zipRight(
          command("CONFIG", "SET", "maxmemory-policy", "noeviction"),
          command("CONFIG", "SET", "maxmemory", "1")
        ),
      ({ command }) => command("CONFIG", "SET", "maxmemory", "0")
    ), 240_000)

  it.effect("Redis is a read-only replica without its primary", () =>
    outlives(
      ({ command }) => command("REPLICAOF", "127.0.0.1", "1"),
      ({ command }) => command("REPLICAOF", "NO", "ONE")
    ), 240_000)
})
