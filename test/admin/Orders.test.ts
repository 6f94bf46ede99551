import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as PgTest from "../harness/PgTest.js"
import { services, start } from "./Harness.js"

const large = "9007199254740993"

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { timeout: "60 seconds", excludeTestServices: true })(
  "the orders of the console",
  (it) => {
    it.scoped("found by order, key, status and time; a large table is read in windows, by the primary key", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE payment, event`
        const key = "00000000-0000-4000-8000-0000000000aa"
        yield* sql`
          INSERT INTO payment (order_id, status, created_at)
          SELECT n, CASE WHEN n = 7 THEN 'CREATED' ELSE 'COMPLETED' END::payment_status,
                 '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 second'
          FROM generate_series(1, 25000) AS n
        `
        yield* sql`INSERT INTO payment (order_id, status, inventory_key) VALUES (${large}::bigint, 'CREATED', ${key})`
        yield* sql`
          INSERT INTO event (topic, order_id, payload, status) VALUES
            ('payment', ${large}::bigint, '{}', 'DEAD'), ('payment', ${large}::bigint, '{}', 'WAIT')
        `
        const ids = (json: any) => json.orders.map((one: any) => one.order_id)
        const one = yield* ask(`/api/orders?order_id=${large}`)
        assert.deepInclude(one.json.orders[0], {
          order_id: large,
          inventory_key: key,
          events_waiting: 1,
          events_dead: 1
        })
        assert.deepStrictEqual(ids((yield* ask(`/api/orders?key=${key}`)).json), [large])
        assert.deepStrictEqual(ids((yield* ask("/api/orders?order_id=25001")).json), [])

        const first = yield* ask("/api/orders?limit=2")
        assert.deepStrictEqual(ids(first.json), [large, "25000"])
        const second = yield* ask(`/api/orders?limit=2&after=${first.json.next}`)
        assert.deepStrictEqual(ids(second.json), ["24999", "24998"])

        // the window ends before the other order that is CREATED
        const created = yield* ask("/api/orders?status=CREATED")
        assert.deepStrictEqual([ids(created.json), created.json.examined], [[large], 20_000])
        const rest = yield* ask(`/api/orders?status=CREATED&after=${created.json.next}`)
        assert.deepStrictEqual([ids(rest.json), rest.json.examined, rest.json.next], [["7"], 5_001, null])

        // the search begins near the time: the newest 20,000 payments are passed over
        const timed = yield* ask("/api/orders?from=2026-01-01T00:00:10Z&until=2026-01-01T00:00:12Z")
        assert.deepStrictEqual([ids(timed.json), timed.json.next], [["11", "10"], null])
      }))

    it.scoped("pay and refuse: the author is stored with the payment and in table operation; a repeat changes nothing", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE payment, event`
        yield* sql`INSERT INTO payment (order_id, status) VALUES (${large}::bigint, 'CREATED')`
        const settle = (how: string, body: object = {}) =>
          ask(`/api/orders/${large}/${how}`, { bearer: "token-of-ann", body: { reason: "by phone", ...body } })
        const status = sql`SELECT status, settled_by FROM payment`
        assert.deepInclude((yield* settle("pay", { dry_run: true })).json, {
          before: "CREATED",
          status: "COMPLETED",
          changed: false
        })
        assert.deepStrictEqual(yield* status, [{ status: "CREATED", settled_by: null }])
        const paid = yield* settle("pay")
        assert.deepInclude(paid.json, { order_id: large, before: "CREATED", status: "COMPLETED", changed: true })
        assert.deepStrictEqual(yield* status, [{ status: "COMPLETED", settled_by: "ann" }])
        assert.deepInclude((yield* settle("pay")).json, { before: "COMPLETED", changed: false })
        const refused = yield* settle("refuse")
        assert.deepStrictEqual([refused.status, refused.json._tag], [409, "Conflict"])
        const events = yield* sql<{ readonly payload: string }>`SELECT payload FROM event`
        assert.strictEqual(events.length, 1)
        assert.include(events[0]!.payload, `"order_id":${large},"status":"COMPLETED"`)
        const { json } = yield* ask(`/api/operations?order_id=${large}`)
        assert.deepStrictEqual(
          json.operations.map(({ action, after, before, operator, reason }: any) => ({
            action,
            operator,
            reason,
            before,
            after
          })),
          [{
            action: "payment pay",
            operator: "ann",
            reason: "by phone",
            before: { status: "CREATED" },
            after: { status: "COMPLETED" }
          }]
        )
        const absent = yield* ask("/api/orders/5/pay", { bearer: "token-of-ann", body: { reason: "by phone" } })
        assert.deepStrictEqual([absent.status, absent.json._tag], [404, "NotFound"])
        assert.strictEqual((yield* ask("/api/orders/5/pay", { bearer: "token-of-ann", body: {} })).status, 400)
      }))

    it.scoped("20,000 dead events come in pages, each event once, and the log of operations too", () =>
      Effect.gen(function*() {
        const { ask } = yield* start()
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE payment, event`
        yield* sql`
          INSERT INTO event (topic, order_id, payload, status, last_error, created_at)
          SELECT 'payment', n, '{"status":"CREATED"}', 'DEAD', 'MESSAGE_TOO_LARGE', '2026-01-01T00:00:00.123456Z'::timestamptz + (n % 50) * interval '1 microsecond'
          FROM generate_series(1, 20000) AS n
        `
        yield* sql`ANALYZE event`
        const seen = new Set<string>()
        let after: string | null = null
        for (let page = 0; page < 4; page++) {
          const { json }: any = yield* ask(
            `/api/outbox/events?state=dead&limit=500${after === null ? "" : `&after=${after}`}`
          )
          assert.strictEqual(json.groups?.[0].count, page === 0 ? 20_000 : undefined)
          for (const { id } of json.events) seen.add(id)
          after = json.next
        }
        assert.strictEqual(seen.size, 2_000)
        const done = yield* ask("/api/outbox/skip", {
          bearer: "token-of-ann",
          body: { reason: "a test", event_ids: [...seen].slice(0, 5) }
        })
        assert.deepInclude(done.json, { changed: 5 })
        const first = yield* ask("/api/operations?limit=3")
        const second = yield* ask(`/api/operations?limit=3&after=${first.json.next}`)
        const ids = [...first.json.operations, ...second.json.operations].map(({ id }: any) => id)
        assert.strictEqual(new Set(ids).size, 6)
      }))
  }
)
