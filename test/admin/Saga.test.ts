import { SqlClient, Statement } from "@effect/sql"
import { assert, it, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Logger } from "effect"
import { readFileSync } from "node:fs"
import * as Http from "node:http"
import * as Runbook from "../../src/admin/saga/Runbook.js"
import * as Standing from "../../src/admin/saga/Standing.js"
import * as Streams from "../../src/admin/Streams.js"
import * as HttpServer from "../../src/infra/http/HttpServer.js"
import { eventually } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import { services, start } from "./Harness.js"

const sample = (changes: object = {}) => ({
  at: new Date("2026-01-02T03:04:05.000Z"),
  consumed: 0,
  payments: 0,
  settled: 0,
  published: 0,
  lag: 0,
  waiting: 0,
  oldest_seconds: 0,
  dead: 0,
  dead_letters: 0,
  ...changes
})

it("what stands still comes first, with its section of the runbook", () => {
  const part = (name: string, required: boolean) => ({
    name,
    ok: false,
    required,
    state: "waiting" as const,
    waiting_for: "kafka",
    reason: "no broker answers",
    since: new Date(0),
    runbook: "the-brokers-are-away"
  })
  const still = sample({ lag: 7, dead: 2, dead_letters: 1, waiting: 3, oldest_seconds: 90 })
  const items = Standing.of([part("redis", false), part("outbox-relay", true)], [sample(), still, still, still])
  assert.deepStrictEqual(items.map(({ runbook, says, urgent, where }) => [urgent, where, says, runbook]), [
    [true, "part", "outbox-relay: no broker answers", "the-brokers-are-away"],
    [true, "consumer", "7 inventory records wait, and no consumer processes them", "the-consumer-processes-nothing"],
    [true, "outbox", "2 events are dead: their orders wait for an operator", "events-are-dead"],
    [true, "relay", "3 events wait to be published, the oldest", "events-wait-to-be-published"],
    [false, "part", "redis: no broker answers", "the-brokers-are-away"],
    [false, "dead-letters", "1 dead letter is on its topic", "there-are-dead-letters"]
  ])
  assert.deepStrictEqual(Standing.of([], [sample()]), [])
  const titles = readFileSync(new URL("../../docs/runbook.md", import.meta.url), "utf8").match(/^## .*$/gm)!
  const slugs = titles.map((title) => title.slice(3).toLowerCase().replaceAll(" ", "-"))
  for (const section of Runbook.all) assert.include(slugs, section)
})

it("an outage of the broker does not begin the time of dead letters anew", () => {
  const at = (second: number, changes: object) => sample({ at: new Date(second * 1_000), ...changes })
  const [item] = Standing.of([], [
    at(0, {}),
    at(5, { dead_letters: 2 }),
    at(10, { dead_letters: null }),
    at(15, { dead_letters: 2 })
  ])
  assert.deepStrictEqual(item?.since, new Date(5_000))
})

it("an event that waits for more than 10 seconds stands still", () => {
  const waiting = (seconds: number) => Standing.of([], [sample({ waiting: 1, oldest_seconds: seconds })])
  assert.deepStrictEqual(waiting(9), [])
  assert.deepInclude(waiting(11)[0]!, { says: "1 event waits to be published, the oldest", urgent: true })
})

/** Counts the statements of the effect and of all that it forks. */
const counting = <A, E, R>(effect: Effect.Effect<A, E, R>, onStatement: () => void) =>
  Statement.withTransformer(effect, (statement) => Effect.sync(() => (onStatement(), statement)))

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { timeout: "90 seconds", excludeTestServices: true })(
  "the saga",
  (it) => {
    it.scoped("a hundred open pages cost the database no more than one, and get the same samples", () => {
      let statements = 0
      return counting(
        Effect.gen(function*() {
          const topic = yield* KafkaTest.freshTopic()
          const { follow } = yield* start({ topic })
          const pages = yield* Effect.all(Array.from({ length: 100 }, () => follow("/api/saga/live")), {
            concurrency: 20
          })
          assert.deepStrictEqual([...new Set(pages.map(({ status }) => status))], [200])
          const samples = () => new Set(pages[0]!.events().map(({ data }) => data.now.at)).size
          const atSample = (n: number) =>
            eventually()(Effect.sync(() => {
              assert.isAtLeast(samples(), n)
              return statements
            }))
          const known = samples()
          const before = yield* atSample(known + 1)
          const after = yield* atSample(known + 2)
          // two for a sample, or for two where this machine is slow
          assert.isAtLeast(after - before, 1)
          assert.isAtMost(after - before, 4)
          yield* eventually()(Effect.sync(() => {
            for (const page of pages) assert.isAtLeast(page.events().length, 3)
          }))
          const { data } = pages[99]!.events().at(-1)!
          assert.deepInclude(data.now, { lag: 0, waiting: 0, dead: 0, payments: 0 })
          assert.strictEqual(data.lag.length, 4)
        }),
        () => statements++
      )
    })

    it.scoped("the figures are those of the tables: rates, waiting, dead, with a history", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { ask } = yield* start({ topic: yield* KafkaTest.freshTopic() })
        yield* ask("/api/saga")
        yield* sql`INSERT INTO payment (order_id, status) SELECT n, 'CREATED' FROM generate_series(1000, 1099) AS n`
        yield* sql`
          INSERT INTO event (topic, order_id, payload, status)
          SELECT 'payment', n, '{}', CASE WHEN n < 1040 THEN 'DEAD' ELSE 'DONE' END::event_status FROM generate_series(1000, 1099) AS n
        `
        yield* eventually()(Effect.gen(function*() {
          const { json } = yield* ask("/api/saga")
          const total = (name: string) =>
            json.history.reduce(
              (sum: number, one: any, i: number) =>
                i === 0
                  ? 0
                  : sum + (one[name] ?? 0) * (Date.parse(one.at) - Date.parse(json.history[i - 1].at)) / 1_000,
              0
            )
          assert.closeTo(total("payments"), 100, 15)
          assert.closeTo(total("published"), 60, 15)
          assert.strictEqual(json.now.dead, 40)
          assert.deepInclude(json.standing[0], { where: "outbox", runbook: "events-are-dead" })
        }))
        yield* sql`TRUNCATE event`
      }))

    it.scoped("a stream has heartbeats, ends for a revoked token, and ends with the server", () =>
      Effect.gen(function*() {
        const revoked = new Set<string>()
        const { follow, server } = yield* start({ revoked, heartbeat: "50 millis" })
        const [ann, dashboard] = [
          yield* follow("/api/saga/live", "token-of-ann"),
          yield* follow("/api/saga/live", "token-of-the-dashboard")
        ]
        yield* eventually()(Effect.sync(() => assert.include(ann.text, ":\n\n")))
        revoked.add("ann")
        yield* eventually()(Effect.sync(() => assert.isTrue(ann.ended)))
        assert.deepStrictEqual(ann.events().at(-1), { name: "end", data: { reason: "signed out" } })
        assert.isFalse(dashboard.ended)
        yield* Fiber.interrupt(server)
        yield* eventually()(Effect.sync(() => assert.isTrue(dashboard.ended)))
        assert.deepStrictEqual(dashboard.events().at(-1), { name: "end", data: { reason: "stop" } })
      }))

    it.scoped("streams are limited in number", () =>
      Effect.gen(function*() {
        const { follow } = yield* start()
        const open = yield* Effect.all(Array.from({ length: 205 }, () => follow("/api/saga/live")), { concurrency: 10 })
        assert.deepStrictEqual([...new Set(open.map(({ status }) => status))].sort(), [200, 429])
      }))
  }
)

it.scopedLive("a page that does not read its stream is dropped, beside one that reads", () =>
  Effect.gen(function*() {
    const streams = yield* Streams.make({ most: 2, age: "1 minute", backlog: 20 })
    const large = Streams.event("large", { text: "x".repeat(1_000_000) })
    const bound = yield* Deferred.make<number>()
    yield* HttpServer.serve({
      address: { host: "127.0.0.1", port: 0 },
      variable: "HTTP_ADDR",
      app: Effect.orDie(
        streams.open(Effect.succeed(true), ({ send }) =>
          Effect.forever(Effect.zipRight(Effect.sync(() => send(large)), Effect.sleep("50 millis"))))
      ),
      listening: (port) =>
        Deferred.succeed(bound, port)
    }).pipe(Effect.forkScoped)
    const port = yield* Deferred.await(bound)
    const open = (reads: boolean) =>
      Effect.acquireRelease(
        Effect.async<{ ended: boolean }>((resume) => {
          const request = Http.get({ host: "127.0.0.1", port, agent: false }, (response) => {
            const page = { ended: false, close: () => request.destroy() }
            response.on("close", () => (page.ended = true)).on("error", () => {})
            if (reads) response.resume()
            else response.pause()
            resume(Effect.succeed(page))
          })
          request.on("error", () => {})
        }),
        (page) => Effect.sync((page as typeof page & { readonly close: () => void }).close)
      )
    const reader = yield* open(true)
    yield* open(false)
    assert.strictEqual(streams.size(), 2)
    yield* eventually()(Effect.sync(() => assert.strictEqual(streams.size(), 1)))
    assert.isFalse(reader.ended)
  }).pipe(Effect.provide(Logger.remove(Logger.defaultLogger))))

/** Keeps the messages of errors. */
const errors = () => {
  const said: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel._tag === "Error") said.push(String(Array.isArray(message) ? message[0] : message))
  })
  return { said, layer: Logger.replace(Logger.defaultLogger, logger) }
}

it.scopedLive("a bug in a stream ends it, and is logged", () => {
  const { layer, said } = errors()
  return Effect.gen(function*() {
    const streams = yield* Streams.make({ most: 1, age: "1 minute", backlog: 20 })
    const bound = yield* Deferred.make<number>()
    yield* HttpServer.serve({
      address: { host: "127.0.0.1", port: 0 },
      variable: "HTTP_ADDR",
      app: Effect.orDie(streams.open(Effect.succeed(true), () => Effect.dieMessage("a bug of the test"))),
      listening: (port) => Deferred.succeed(bound, port)
    }).pipe(Effect.forkScoped)
    const port = yield* Deferred.await(bound)
    const body = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/`).then((response) => response.text()))
    assert.include(body, "event: end")
    assert.deepStrictEqual(said, ["a bug ended a stream of the console"])
  }).pipe(Effect.provide(layer))
})

layer(Layer.provideMerge(services, PgTest.layer), { excludeTestServices: true })("a bug in a handler", (it) => {
  it.scoped("is 500 without its cause, and logged once", () => {
    const { layer, said } = errors()
    return Effect.gen(function*() {
      const { ask } = yield* start({ examine: Effect.dieMessage("a bug of the test") })
      const { status, text } = yield* ask("/api/doctor")
      assert.strictEqual(status, 500)
      assert.notInclude(text, "a bug of the test")
      assert.deepStrictEqual(said, ["a bug failed a request of the operations API"])
    }).pipe(Effect.provide(layer))
  })
})
