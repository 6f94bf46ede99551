import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Array as Arr, Effect, Fiber } from "effect"
import * as Pruner from "../../src/outbox/Pruner.js"
import * as Fixtures from "./Fixtures.js"

layer(Fixtures.layer, { timeout: "60 seconds", excludeTestServices: true })("Pruner", (it) => {
  it.effect("deletes DONE events past their retention in bounded steps, and no other", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Fixtures.append(Arr.range(1, 3_500))
      yield* sql`
        UPDATE event SET
          created_at = clock_timestamp() - interval '2 days',
          status = (ARRAY['DONE', 'DONE', 'WAIT', 'DEAD', 'DONE']::event_status[])[1 + id % 5],
          done_at = CASE WHEN id % 5 IN (0, 1) THEN clock_timestamp() - interval '25 hours'
                         WHEN id % 5 = 4 THEN clock_timestamp() - interval '23 hours' END
      `
      const left = sql<{ readonly status: string; readonly n: number }>`
        SELECT status::text, count(*)::int AS n FROM event GROUP BY status ORDER BY status::text
      `
      const step = yield* Pruner.prune("1 day", "0")
      assert.deepStrictEqual(step, { next: "1000", deleted: 400 })

      const pruner = yield* Effect.fork(Pruner.serve({ retention: "1 day", part: Fixtures.part() }))
      yield* Effect.repeat(left, { until: (rows) => rows.find((_) => _.status === "DONE")?.n === 700 })
      yield* Fiber.interrupt(pruner)
      assert.deepStrictEqual([...yield* left], [
        { status: "DEAD", n: 700 },
        { status: "DONE", n: 700 },
        { status: "WAIT", n: 700 }
      ])
    }))

  it.effect("a round ends at events that are too young", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* Fixtures.clear
      yield* Fixtures.append(Arr.range(1, 1_500))
      yield* sql`UPDATE event SET status = 'DONE', done_at = clock_timestamp()`
      assert.deepStrictEqual(yield* Pruner.prune("1 day", "0"), { next: null, deleted: 0 })
    }))
})
