import { SqlClient } from "@effect/sql"
import { assert, it, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, TestClock } from "effect"
import { Outbox } from "../../src/outbox/Outbox.js"
import * as ScanCursor from "../../src/outbox/ScanCursor.js"
import { until } from "../harness/Eventually.js"
import * as Fixtures from "./Fixtures.js"

const after = (millis: number) => TestClock.adjust(millis)

it.effect("begins where the oldest waiting event was when all have ended that were under way then", () =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const floor = yield* ScanCursor.make
    const found = (oldest: bigint, xid: bigint, xmin: bigint, from = 1n) =>
      floor.found(from, clock.unsafeCurrentTimeNanos(), { oldest, xid, xmin })
    assert.strictEqual(floor.begin(), 0n)
    found(10n, 100n, 100n, 0n)
    // a transaction with a lower id may be under way
    assert.strictEqual(floor.begin(), 0n)
    found(50n, 102n, 101n)
    assert.strictEqual(floor.begin(), 10n)
    found(60n, 105n, 102n)
    assert.strictEqual(floor.begin(), 10n, "102 is under way yet")
    found(70n, 108n, 107n)
    assert.strictEqual(floor.begin(), 60n)
    found(55n, 110n, 109n)
    assert.strictEqual(floor.begin(), 55n, "one that came late is looked for until it waits no more")
    yield* after(1_000)
    assert.strictEqual(floor.begin(), 0n, "it was a second since the last look at everything")
    assert.strictEqual(floor.begin(), 55n)
  }))

it.effect("does not wait for a transaction that writes for long", () =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const floor = yield* ScanCursor.make
    const found = (from: bigint, oldest: bigint, xid: bigint) =>
      floor.found(from, clock.unsafeCurrentTimeNanos(), { oldest, xid, xmin: 7n })
    assert.strictEqual(floor.begin(), 0n)
    found(0n, 10n, 100n)
    yield* after(199)
    assert.strictEqual(floor.begin(), 0n)
    yield* after(1)
    assert.strictEqual(floor.begin(), 10n)
    found(10n, 50n, 101n)
    yield* after(100)
    found(10n, 60n, 102n)
    yield* after(100)
    assert.strictEqual(floor.begin(), 50n)
    yield* after(100)
    assert.strictEqual(floor.begin(), 60n)
  }))

it.effect("a look at everything that takes long is seldom", () =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const floor = yield* ScanCursor.make
    const since = clock.unsafeCurrentTimeNanos()
    assert.strictEqual(floor.begin(), 0n)
    yield* after(500)
    floor.found(0n, since, { oldest: 7n, xid: 100n, xmin: 101n })
    yield* after(9_900)
    assert.strictEqual(floor.begin(), 7n)
    yield* after(100)
    assert.strictEqual(floor.begin(), 0n)
  }))

it.effect("a look at everything that finds nothing counts as well", () =>
  Effect.gen(function*() {
    const clock = yield* Effect.clock
    const floor = yield* ScanCursor.make
    assert.strictEqual(floor.begin(), 0n)
    floor.found(0n, clock.unsafeCurrentTimeNanos(), { oldest: 7n, xid: 100n, xmin: 101n })
    yield* after(1_000)
    const since = clock.unsafeCurrentTimeNanos()
    assert.strictEqual(floor.begin(), 0n)
    yield* after(500)
    floor.found(0n, since, undefined)
    yield* after(9_900)
    assert.strictEqual(floor.begin(), 7n)
    floor.rewind()
    assert.strictEqual(floor.begin(), 0n, "events below it wait again")
    floor.found(0n, clock.unsafeCurrentTimeNanos(), { oldest: 3n, xid: 300n, xmin: 30n })
    assert.strictEqual(floor.begin(), 3n, "the claim moves it back, and the next one need not scan from the beginning")
  }))

layer(Fixtures.layer, { excludeTestServices: true })("beside a transaction that commits late", (it) => {
  it.effect("a claim tells that it is under way, and by its end that all have ended which were", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      const [written, commit] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const late = yield* Effect.fork(sql.withTransaction(
        Fixtures.append([1]).pipe(
          Effect.zipLeft(Deferred.succeed(written, undefined)),
          Effect.zipLeft(Deferred.await(commit))
        )
      ))
      yield* Deferred.await(written)
      const [second] = yield* Fixtures.append([2])
      const before = (yield* outbox.claim(1)).sight!
      assert.strictEqual(before.oldest, BigInt(second!))
      assert.isBelow(Number(before.xmin), Number(before.xid))
      yield* Fixtures.append([3])
      assert.isBelow(Number((yield* outbox.claim(1)).sight!.xmin), Number(before.xid), "it is under way yet")

      yield* Deferred.succeed(commit, undefined)
      const [first] = yield* Fiber.join(late)
      const after = (yield* outbox.claim(1)).sight!
      assert.strictEqual(after.oldest, BigInt(first!))
      const orders = { next: 4 }
      yield* until(
        Effect.zipRight(Effect.suspend(() => Fixtures.append([orders.next++])), outbox.claim(1)),
        // transactions of the server's other databases are counted too
        ({ sight }) => sight!.xmin > before.xid
      )
    }))
})

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
      const pages = Effect.fnUntraced(function*(from: bigint) {
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
      assert.isAbove(yield* pages(0n), 300, "there are no dead rows to read: this shows nothing")
      yield* Fixtures.expireLeases
      assert.isBelow(yield* pages(BigInt(waiting!.oldest)), 120)
    }))
})
