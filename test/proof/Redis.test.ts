import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { eventually } from "../e2e/Eventually.js"
import * as Restartable from "../e2e/Restartable.js"
import * as Proxy from "../utils/Proxy.js"
import * as Saga from "./Saga.js"

const limit = { timeout: 240_000, concurrent: true } as const

/** Redis of our own, behind a proxy, and services under load. While `happening` is in force orders go on as ever. */
const withRedis = Effect.fnUntraced(function*(
  begin: (redis: Server) => Effect.Effect<unknown, unknown>,
  end: (redis: Server) => Effect.Effect<unknown, unknown>
) {
  const restartable = yield* Restartable.make("redis")
  const proxy = yield* Proxy.make(restartable.url)
  const command = (name: string, ...args: ReadonlyArray<string>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => new Redis(restartable.url).on("error", () => {})),
      (client) => Effect.promise(() => client.call(name, ...args)),
      (client) => Effect.sync(() => client.disconnect())
    )
  const saga = yield* Saga.make({
    ordersPerSecond: 25,
    servers: { redisUrl: restartable.url },
    env: { REDIS_URL: proxy.url }
  })
  const program = yield* saga.serve()
  yield* program.untilReady
  const remembered = Effect.map(command("DBSIZE"), Number)
  const server = { ...restartable, proxy, command, remembered }

  yield* saga.outlives(Effect.gen(function*() {
    yield* begin(server)
    yield* saga.more(100)
    yield* end(server)
    // it is used again
    const before = yield* remembered
    yield* Effect.tap(remembered, (now) => assert.isAbove(now, before)).pipe(eventually("60 seconds"))
    yield* Effect.tap(program.readiness, ({ dependencies }) => assert.isTrue(dependencies["redis"]?.ok)).pipe(
      eventually("60 seconds")
    )
  }))
  // never a reason to start the consumer again, or to hold up a batch; what else is slow here is not the matter
  for (const line of program.stderr().split("\n")) {
    if (/redis/i.test(line)) assert.notMatch(line, /starting the service again|waiting with a batch/)
  }
})

interface Server extends Restartable.Restartable {
  readonly proxy: Proxy.Proxy
  readonly command: (name: string, ...args: ReadonlyArray<string>) => Effect.Effect<unknown>
}

it.scopedLive("Redis is gone, and comes back", () => withRedis(({ crash }) => crash, ({ start }) => start), limit)

it.scopedLive("Redis restarts", () => withRedis(({ restart }) => restart, () => Effect.void), limit)

it.scopedLive(
  "Redis forgets everything",
  () => withRedis(({ command }) => command("FLUSHALL"), () => Effect.void),
  limit
)

it.scopedLive(
  "Redis takes 5 s for each command",
  () => withRedis(({ proxy }) => proxy.set({ delayMillis: 5_000 }), ({ proxy }) => proxy.set("pass")),
  limit
)

it.scopedLive("Redis is out of memory, and may not evict", () =>
  withRedis(
    ({ command }) =>
      Effect.zipRight(
        command("CONFIG", "SET", "maxmemory-policy", "noeviction"),
        command("CONFIG", "SET", "maxmemory", "1")
      ),
    ({ command }) => command("CONFIG", "SET", "maxmemory", "0")
  ), limit)

it.scopedLive("Redis is a read-only replica of a primary that is not there", () =>
  withRedis(
    ({ command }) => command("REPLICAOF", "127.0.0.1", "1"),
    ({ command }) => command("REPLICAOF", "NO", "ONE")
  ), limit)
