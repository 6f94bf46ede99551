import { SqlClient } from "@effect/sql"
import { assert, it, layer } from "@effect/vitest"
import { Deferred, Effect, TestClock } from "effect"
import * as Floor from "../../src/outbox/Floor.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import * as Fixtures from "./Fixtures.js"

const after = (millis: number) => TestClock.adjust(millis)

it.effect("begins where the oldest waiting event was a moment ago, and looks at everything once a second", () =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const floor = yield* Floor.make
    const found = (from: string, oldest: string) => floor.found(from, clock.unsafeCurrentTimeNanos(), oldest)
    assert.strictEqual(floor.begin(), "0")
    found("0", "10")
    // nobody knows yet whether a transaction with a lower id is under way
    assert.strictEqual(floor.begin(), "0")
    yield* after(200)
    assert.strictEqual(floor.begin(), "10")
    found("10", "50")
    yield* after(100)
    found("10", "60")
    yield* after(100)
    assert.strictEqual(floor.begin(), "50")
    yield* after(100)
    assert.strictEqual(floor.begin(), "60")
    yield* after(900)
    assert.strictEqual(floor.begin(), "0", "it was a second since the last look at everything")
    assert.strictEqual(floor.begin(), "60")
  }))

it.effect("a look at everything that takes long is seldom", () =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const floor = yield* Floor.make
    const since = clock.unsafeCurrentTimeNanos()
    assert.strictEqual(floor.begin(), "0")
    yield* after(500)
    floor.found("0", since, "7")
    yield* after(9_900)
    assert.strictEqual(floor.begin(), "7")
    yield* after(100)
    assert.strictEqual(floor.begin(), "0")
  }))

layer(Fixtures.layer)("under a transaction that stays open", (it) => {
  it.scoped("a claim reads what waits, and not what was published since", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      const held = yield* Deferred.make<void>()
      yield* Effect.forkScoped(sql.withTransaction(
        sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`.pipe(
          Effect.zipRight(sql`SELECT count(*) FROM event`),
          Effect.zipRight(Deferred.succeed(held, undefined)),
          Effect.zipRight(Effect.never)
        )
      ))
      yield* Deferred.await(held)
      yield* sql`
        INSERT INTO event (topic, order_id, payload) SELECT 'payment', n, '{}' FROM generate_series(1, 20000) AS n
      `
      yield* sql`UPDATE event SET status = 'DONE', done_at = clock_timestamp()`
      yield* Fixtures.append([30_001, 30_002, 30_003])

      /** Pages that the claim reads. */
      const pages = Effect.fnUntraced(function*(from: string) {
        const [text, values] = outbox.claimStatement("00000000-0000-4000-8000-000000000000", 500, from).compile()
        const [row] = yield* sql.unsafe<{ readonly "QUERY PLAN": [{ readonly Plan: Record<string, number> }] }>(
          `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`,
          values
        )
        const plan = row!["QUERY PLAN"][0].Plan
        return plan["Shared Hit Blocks"]! + plan["Shared Read Blocks"]!
      })
      const [waiting] = yield* sql<
        { readonly oldest: string }
      >`SELECT min(id) AS oldest FROM event WHERE status = 'WAIT'`
      assert.isAbove(yield* pages("0"), 300, "there are no dead rows to read: this shows nothing")
      yield* Fixtures.expireLeases
      assert.isBelow(yield* pages(waiting!.oldest), 120)
    }))
})
