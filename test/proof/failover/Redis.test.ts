import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { eventually } from "../../harness/Eventually.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
import * as Sentinels from "../../harness/Sentinels.js"
import * as Saga from "../Saga.js"

const command = (url: string, name: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new Redis(url).on("error", () => {})),
    (client) => Effect.promise(() => client.call(name, ...args)),
    (client) => Effect.sync(() => client.disconnect())
  )

const limit = 180_000

describe("P1: Redis fails over", () => {
  it.scopedLive(
    "the primary dies, and one address leads to its replica, which is promoted",
    () =>
      Effect.gen(function*() {
        const primary = yield* Restartable.make("redis")
        const replica = yield* Restartable.make("redis")
        const proxy = yield* Proxy.make(primary.url)
        yield* command(replica.url, "REPLICAOF", "127.0.0.1", new URL(primary.url).port)
        const saga = yield* Saga.make({ servers: { redisUrl: proxy.url } })
        const program = yield* saga.serve()
        yield* program.untilReady
        const works = (yes: boolean) =>
          Effect.tap(program.readiness, ({ dependencies, ready }) => {
            assert.strictEqual(dependencies["redis"]?.ok, yes)
            // Redis saves work, and nothing needs it
            assert.isTrue(ready)
          }).pipe(eventually("60 seconds"))
        yield* works(true)
        yield* saga.outlives(Effect.gen(function*() {
          yield* primary.destroy
          yield* proxy.lead(replica.url)
          yield* proxy.cut
          // a replica takes no writes: a new connection may find the primary
          yield* works(false)
          yield* saga.more(50)
          yield* command(replica.url, "REPLICAOF", "NO", "ONE")
          yield* works(true)
          const size = Effect.map(command(replica.url, "DBSIZE"), Number)
          const before = yield* size
          yield* Effect.tap(size, (now) => assert.isAbove(now, before)).pipe(eventually("60 seconds"))
        }))
      }),
    limit
  )

  it.scopedLive(
    "Sentinels promote a replica: of a primary that dies, and of one that stands still and comes back",
    () =>
      Effect.gen(function*() {
        const servers = yield* Effect.all([
          Restartable.make("redis"),
          Restartable.make("redis"),
          Restartable.make("redis")
        ])
        const [first, ...replicas] = servers
        for (const replica of replicas) {
          yield* command(replica.url, "REPLICAOF", "127.0.0.1", new URL(first.url).port)
        }
        const sentinels = yield* Sentinels.make({ primary: first.url, count: 3, replicas: 2 })
        const saga = yield* Saga.make({
          servers: { redisUrl: `redis+sentinel://${sentinels.map((_) => _.at).join(",")}/main` }
        })
        const program = yield* saga.serve()
        yield* program.untilReady
        /** The server that Sentinels name as primary: another one than that. */
        const promoted = (before: Restartable.Restartable) =>
          Effect.gen(function*() {
            const [, port] = (yield* command(
              `redis://${sentinels[0]!.at}`,
              "SENTINEL",
              "get-master-addr-by-name",
              "main"
            )) as ReadonlyArray<string>
            const now = servers.find(({ url }) => new URL(url).port === port)
            assert.isDefined(now)
            assert.notStrictEqual(now, before)
            return now!
          }).pipe(eventually("60 seconds"))
        /** The service writes to this server again. */
        const uses = Effect.fnUntraced(function*(server: Restartable.Restartable) {
          const size = Effect.map(command(server.url, "DBSIZE"), Number)
          const before = yield* size
          yield* Effect.tap(size, (now) => assert.isAbove(now, before)).pipe(eventually("60 seconds"))
          yield* Effect.tap(program.readiness, ({ dependencies, ready }) => {
            assert.strictEqual(dependencies["redis"]?.ok, true)
            assert.isTrue(ready)
          }).pipe(eventually("60 seconds"))
        })
        yield* saga.outlives(Effect.gen(function*() {
          yield* uses(first)
          yield* first.destroy
          yield* Effect.tap(program.readiness, ({ dependencies, ready }) => {
            assert.strictEqual(dependencies["redis"]?.ok, false)
            assert.isTrue(ready)
          }).pipe(eventually("60 seconds"))
          const second = yield* promoted(first)
          yield* uses(second)
          yield* second.freeze
          const third = yield* promoted(second)
          yield* uses(third)
          yield* second.thaw
          // the Sentinels make it a replica
          yield* Effect.tap(
            command(second.url, "ROLE"),
            (role) => assert.strictEqual((role as ReadonlyArray<string>)[0], "slave")
          ).pipe(eventually("60 seconds"))
          yield* uses(third)
        }))
      }),
    limit
  )
})
