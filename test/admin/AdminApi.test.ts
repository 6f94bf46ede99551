import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import { services, start as serve, token } from "./Harness.js"

const start = (admin: boolean, topic?: string) =>
  Effect.map(
    serve({ admin, ...(topic === undefined ? {} : { topic }) }),
    ({ ask }) => (path: string, body?: object, bearer: string = token) =>
      Effect.map(ask(path, { body, bearer }), ({ json, status, text }) => ({ status, json: json ?? text }))
  )

const dead = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql<{ readonly id: string }>`
    INSERT INTO event (topic, order_id, payload, status, attempts, last_error) VALUES
      ('payment', 9007199254740993, '{"idempotent_key":"00000000-0000-4000-8000-000000000001","order_id":9007199254740993,"status":"CREATED"}',
       'DEAD', 10, 'MESSAGE_TOO_LARGE')
    RETURNING id
  `.pipe(Effect.map(([row]) => row!.id)))

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { timeout: "60 seconds", excludeTestServices: true })(
  "the operations API",
  (it) => {
    it.scoped("without a token there is none; with one it takes that token only, and says what it offers", () =>
      Effect.gen(function*() {
        const off = yield* start(false)
        for (const path of ["/openapi.json", "/api/outbox/blocked"]) {
          assert.strictEqual((yield* off(path)).status, 404, path)
        }
        const ask = yield* start(true)
        for (const bearer of ["", "another", `${token}x`, token.slice(1)]) {
          assert.strictEqual((yield* ask("/api/outbox/blocked", undefined, bearer)).status, 401, bearer)
        }
        assert.strictEqual((yield* ask("/api/outbox/blocked")).status, 200)
        assert.strictEqual((yield* ask("/api/nothing")).status, 404)
        assert.strictEqual((yield* ask("/livez", undefined, "")).status, 200)
        const { json, status } = yield* ask("/openapi.json", undefined, "")
        assert.strictEqual(status, 200)
        assert.sameMembers(Object.keys(json.paths), [
          "/api/session",
          "/api/saga",
          "/api/saga/live",
          "/api/orders",
          "/api/orders/{order_id}",
          "/api/orders/{order_id}/pay",
          "/api/orders/{order_id}/refuse",
          "/api/topics",
          "/api/topics/{topic}/records",
          "/api/topics/{topic}/live",
          "/api/topics/inventory/records",
          "/api/doctor",
          "/api/outbox/events",
          "/api/outbox/blocked",
          "/api/outbox/retry",
          "/api/outbox/skip",
          "/api/outbox/replay",
          "/api/dead-letters",
          "/api/dead-letters/{partition}/{offset}",
          "/api/dead-letters/replay",
          "/api/operations"
        ])
      }))

    it.scoped("retry: needs a selection, a reason and an operator; a dry run changes nothing; the change is noted", () =>
      Effect.gen(function*() {
        const ask = yield* start(true)
        const id = yield* dead
        const by = { reason: "a test", operator: "ann" }
        assert.strictEqual((yield* ask("/api/outbox/retry", by)).status, 400)
        assert.strictEqual((yield* ask("/api/outbox/retry", { event_ids: [id], reason: "a test" })).status, 400)
        const { json } = yield* ask("/api/outbox/events?state=dead")
        assert.deepInclude(json.events[0], { id, order_id: "9007199254740993", state: "dead" })
        const dry = yield* ask("/api/outbox/retry", { ...by, event_ids: [id], dry_run: true })
        assert.deepInclude(dry.json, { planned: 1, changed: 0 })
        const done = yield* ask("/api/outbox/retry", { ...by, event_ids: [id] })
        assert.deepInclude(done.json, { planned: 1, changed: 1, unchanged: 0 })
        const noted = yield* ask("/api/operations?order_id=9007199254740993")
        assert.deepInclude(noted.json.operations[0], {
          operator: "ann",
          reason: "a test",
          event_id: id,
          run: done.json.run
        })
        const story = yield* ask("/api/orders/9007199254740993")
        assert.deepInclude(story.json, { order_id: "9007199254740993", state: "no-payment" })
        assert.strictEqual((yield* ask("/api/orders/0")).status, 400)
      }))

    it.scoped("a named token: its owner is the operator, and its scopes count", () =>
      Effect.gen(function*() {
        const ask = yield* start(true)
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE event`
        const change = { reason: "a test", event_ids: [yield* dead] }
        assert.strictEqual((yield* ask("/api/outbox/blocked", undefined, "token-of-the-dashboard")).status, 200)
        const refused = yield* ask("/api/outbox/retry", change, "token-of-the-dashboard")
        assert.deepStrictEqual([refused.status, refused.json.message], [
          403,
          "the token of dashboard lacks the scope operations:change"
        ])
        const asBob = yield* ask("/api/outbox/retry", { ...change, operator: "bob" }, "token-of-ann")
        assert.deepStrictEqual([asBob.status, asBob.json.message], [
          400,
          "leave out operator: the token is that of ann"
        ])
        assert.strictEqual(
          (yield* ask("/api/outbox/retry", change)).json.message,
          "give operator: the token has no name"
        )
        assert.deepInclude((yield* ask("/api/outbox/retry", change, "token-of-ann")).json, { changed: 1 })
        const noted = yield* ask("/api/operations", undefined, "token-of-the-dashboard")
        assert.deepInclude(noted.json.operations[0], { operator: "ann", event_id: change.event_ids[0] })
      }))

    it.scoped("replay of missing events announces again what the audit does not find on the topic", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE event, payment`
        const id = yield* dead
        yield* sql`UPDATE event SET status = 'DONE', done_at = clock_timestamp() - interval '1 minute', created_at = clock_timestamp() - interval '2 minutes'`
        yield* sql`INSERT INTO payment (order_id, status) VALUES (9007199254740993, 'CREATED')`
        const topic = yield* KafkaTest.freshTopic()
        yield* sql`UPDATE event SET topic = ${topic}`
        // another event, which is not of this topic
        yield* sql`
          INSERT INTO event (topic, order_id, payload, status, done_at, created_at)
          SELECT 'another', 5, replace(payload, '9007199254740993', '5'), 'DONE', done_at, created_at FROM event
        `
        yield* sql`INSERT INTO payment (order_id, status) VALUES (5, 'CREATED')`
        const ask = yield* start(true, topic)
        const by = { reason: "the topic was lost", operator: "ann", missing: true }
        assert.deepInclude((yield* ask("/api/outbox/replay", { ...by, dry_run: true })).json, {
          planned: 1,
          changed: 0
        })
        const replayed = yield* ask("/api/outbox/replay", by)
        assert.deepInclude(replayed.json, { planned: 1, changed: 1 }, JSON.stringify(replayed.json))
        const { json } = yield* ask("/api/outbox/events")
        assert.deepInclude(json.events[0], { id, state: "due" })
        // the other one is not missing
        assert.deepInclude((yield* ask("/api/outbox/replay", by)).json, { planned: 0, changed: 0 })
        assert.strictEqual((yield* ask("/api/outbox/replay", { ...by, missing: false })).status, 400)
      }))

    it.scoped("replay of events beyond the duplicate window asks apart", () =>
      Effect.gen(function*() {
        const ask = yield* start(true)
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE event, payment`
        yield* dead
        yield* sql`UPDATE event SET status = 'DONE', done_at = clock_timestamp() - interval '16 minutes'`
        yield* sql`INSERT INTO payment (order_id, status) VALUES (9007199254740993, 'CREATED')`
        const by = { reason: "a test", operator: "ann", order_ids: ["9007199254740993"] }
        const first = yield* ask("/api/outbox/replay", by)
        assert.deepStrictEqual([first.status, first.json.field], [409, "beyond_window"])
        const second = yield* ask("/api/outbox/replay", { ...by, beyond_window: true })
        assert.deepInclude(second.json, { changed: 1 })
        const story = yield* ask("/api/orders/9007199254740993")
        assert.deepInclude(story.json, {
          order_id: "9007199254740993",
          state: "event-due",
          command: "payments outbox list"
        })
      }))
  }
)
