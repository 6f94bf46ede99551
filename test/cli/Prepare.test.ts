import { NodeContext } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import * as Prepare from "../../src/cli/Prepare.js"
import { until } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as PgTest from "../harness/PgTest.js"
import * as Fixtures from "../outbox/Fixtures.js"

it.scopedLive(
  "the lag of a consumer says that it waits for brokers which are away from the start",
  () =>
    Effect.gen(function*() {
      const brokers = [`127.0.0.1:${yield* freePort}`]
      const [part, follower] = [Fixtures.part(), Fixtures.part()]
      const options = { topics: [{ topic: "inventory" }], create: true, part, follower }
      yield* Effect.forkScoped(Prepare.topics({ brokers, clientId: "test" }, options))
      for (const each of [part, follower]) {
        assert.include(yield* until(Effect.sync(each.why), (why) => why !== undefined), "kafka is not available")
      }
    }),
  30_000
)

it.scopedLive(
  "a start that migrates says that it waits for the lock of a table, and goes on when it is free",
  () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`
      CREATE TABLE payments_migrations (
        migration_id integer PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), name text NOT NULL
      )
    `
      const holder = yield* sql.reserve
      yield* holder.executeRaw("BEGIN", [])
      yield* holder.executeRaw("LOCK TABLE payments_migrations IN SHARE MODE", [])
      const part = Fixtures.part()
      const prepared = yield* Effect.fork(Prepare.database({ migrate: true, rights: {}, part }))
      assert.include(
        yield* until(Effect.sync(part.why), (why) => why !== undefined),
        "a migration does not get the lock of a table: canceling statement due to lock timeout"
      )
      yield* holder.executeRaw("COMMIT", [])
      yield* Fiber.join(prepared)
      assert.isUndefined(part.why())
    }).pipe(Effect.provide(Layer.merge(PgTest.layerEmpty, NodeContext.layer))),
  60_000
)
