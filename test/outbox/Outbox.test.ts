import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Effect } from "effect"
import { Outbox } from "../../src/outbox/Outbox.js"
import * as Fixtures from "./Fixtures.js"

const range = (from: number, to: number) => Arr.range(from, to)
const idsOf = (claim: { readonly events: ReadonlyArray<{ readonly id: string }> }) => claim.events.map((_) => _.id)

layer(Fixtures.layer, { timeout: "60 seconds", excludeTestServices: true })("Outbox", (it) => {
  it.effect("many workers at once: each event is claimed once, no claim is over its limit, all are oldest first", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      const ids = yield* Fixtures.append(range(1, 2_000))
      const claims = yield* Effect.replicateEffect(outbox.claim(50), 60).pipe(
        Effect.withConcurrency(15),
        (all) =>
          Effect.all([all, Effect.all(Arr.makeBy(10, () => outbox.claim(50)), { concurrency: 10 })], {
            concurrency: 2
          }),
        Effect.map((_) => _.flat())
      )
      for (const claim of claims) {
        assert.isAtMost(claim.events.length, 50)
        assert.deepStrictEqual(idsOf(claim), Arr.sort(idsOf(claim), (a, b) => Number(a) < Number(b) ? -1 : 1))
      }
      const claimed = claims.flatMap(idsOf)
      assert.strictEqual(new Set(claimed).size, claimed.length, "an event was claimed twice")
      assert.sameMembers(claimed, [...ids])
    }))

  it.effect("the limit holds under a nested-loop plan with stale statistics", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      yield* Fixtures.append(range(1, 500))
      assert.lengthOf((yield* outbox.claim(7)).events, 7)
    }))

  it.effect("only the head of an order can be claimed, and the next one after it is DONE", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      const [created] = yield* Fixtures.append([1])
      const [other] = yield* Fixtures.append([2])
      const [terminal] = yield* Fixtures.append([1], { status: "COMPLETED" })

      const first = yield* outbox.claim(10)
      assert.deepStrictEqual(idsOf(first), [created!, other!])
      assert.lengthOf((yield* outbox.claim(10)).events, 0, "the head is leased, the next must wait")
      yield* outbox.markDone(first, first.events.filter((_) => _.id === other))
      assert.lengthOf((yield* outbox.claim(10)).events, 0, "another order does not free it")
      yield* outbox.markDone(first, first.events)
      assert.deepStrictEqual(idsOf(yield* outbox.claim(10)), [terminal!])
    }))

  it.effect("a dead event blocks its own order and no other", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      const [dead] = yield* Fixtures.append([1])
      yield* Fixtures.append([1], { status: "COMPLETED" })
      const [other] = yield* Fixtures.append([2])
      for (const attempt of [1, 2, 3]) {
        const claim = yield* outbox.claim(1)
        assert.deepStrictEqual(idsOf(claim), [dead!])
        const status = yield* outbox.refuse(claim, claim.events[0]!, "MESSAGE_TOO_LARGE")
        assert.strictEqual(status, attempt === 3 ? "DEAD" : "WAIT")
        yield* Fixtures.expireLeases
      }
      const { attempts, last_error, status } = yield* Fixtures.statusOf(dead!)
      assert.deepStrictEqual({ attempts, last_error, status }, {
        attempts: 3,
        last_error: "MESSAGE_TOO_LARGE",
        status: "DEAD"
      })
      assert.deepStrictEqual(idsOf(yield* outbox.claim(10)), [other!])
    }))

  it.effect("a refused event comes back after a back-off that grows and is capped", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      for (const [attempts, longest] of [[0, 1], [1, 2], [4, 16], [2_000_000, 300]] as const) {
        yield* Fixtures.clear
        const [id] = yield* Fixtures.append([1])
        yield* sql`UPDATE event SET attempts = ${attempts}`
        const claim = yield* outbox.claim(1)
        yield* sql`UPDATE event SET status = 'WAIT', attempts = ${attempts} WHERE id = ${id}`
        yield* outbox.refuse(claim, claim.events[0]!, "refused")
        const { delay } = yield* Fixtures.statusOf(id!)
        assert.isAtMost(delay!, longest)
        assert.isAtLeast(delay!, longest / 2 - 1)
      }
    }))

  it.effect("a live lease is never taken, a dead one is, and its former worker changes nothing", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      const [id] = yield* Fixtures.append([1])
      const dead = yield* outbox.claim(10)
      assert.lengthOf((yield* outbox.claim(10)).events, 0)
      assert.isTrue(yield* outbox.renew(dead))

      yield* Fixtures.expireLeases
      const alive = yield* outbox.claim(10)
      assert.deepStrictEqual(idsOf(alive), [id!])
      assert.notStrictEqual(alive.token, dead.token)

      const before = yield* Fixtures.statusOf(id!)
      assert.isFalse(yield* outbox.renew(dead))
      assert.lengthOf(yield* outbox.markDone(dead, dead.events), 0)
      assert.isUndefined(yield* outbox.refuse(dead, dead.events[0]!, "late"))
      yield* outbox.release(dead, dead.events, 0)
      const after = yield* Fixtures.statusOf(id!)
      assert.deepStrictEqual({ ...after, delay: 0 }, { ...before, delay: 0 })
      assert.isAbove(after.delay!, 20, "the lease of the new worker was touched")

      assert.lengthOf(yield* outbox.markDone(alive, alive.events), 1)
      assert.lengthOf(yield* outbox.markDone(alive, alive.events), 0, "DONE is for good")
      yield* outbox.release(alive, alive.events, 0)
      assert.strictEqual((yield* Fixtures.statusOf(id!)).status, "DONE")
    }))

  it.effect("renewal gives the whole lease again, by the clock of the database", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const sql = yield* SqlClient.SqlClient
      const outbox = yield* Outbox
      const [id] = yield* Fixtures.append([1])
      const claim = yield* outbox.claim(1)
      yield* sql`UPDATE event SET reserved_to = clock_timestamp() + interval '1 second'`
      yield* outbox.renew(claim)
      const { delay } = yield* Fixtures.statusOf(id!)
      assert.isAtMost(delay!, 30)
      assert.isAbove(delay!, 25)
    }))

  it.effect("released events are due after their delay, with no attempt counted", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      const [id] = yield* Fixtures.append([1])
      const first = yield* outbox.claim(1)
      yield* outbox.release(first, first.events, 0)
      const second = yield* outbox.claim(1)
      assert.deepStrictEqual(idsOf(second), [id!])
      yield* outbox.release(second, second.events, "1 minute")
      assert.lengthOf((yield* outbox.claim(1)).events, 0)
      assert.strictEqual((yield* Fixtures.statusOf(id!)).attempts, 0)
    }))

  it.effect("under contention, an order's next event is never claimed before its first is DONE", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const outbox = yield* Outbox
      const sql = yield* SqlClient.SqlClient
      yield* Fixtures.append(range(1, 200))
      yield* Fixtures.append(range(1, 200), { status: "COMPLETED" })
      const done = new Set<string>()
      const work = Effect.gen(function*() {
        for (;;) {
          const claim = yield* outbox.claim(9)
          if (claim.events.length === 0) {
            const [left] = yield* sql<{ readonly n: number }>`
              SELECT count(*)::int AS n FROM event WHERE status = 'WAIT'
            `
            if (left!.n === 0) return
            continue
          }
          for (const { key, payload } of claim.events) {
            if (payload.includes("COMPLETED")) assert.isTrue(done.has(key), `order ${key} out of order`)
            else done.add(key)
          }
          yield* outbox.markDone(claim, claim.events)
        }
      })
      yield* Effect.all(Arr.makeBy(8, () => work), { concurrency: 8 })
      assert.strictEqual(done.size, 200)
    }))
})
