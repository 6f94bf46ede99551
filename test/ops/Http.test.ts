import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Logger, Metric, MetricBoundaries, Ref } from "effect"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Https from "node:https"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TLSSocket } from "node:tls"
import * as NodeTls from "node:tls"
import { AddressInUse } from "../../src/infra/runtime/AddressInUse.js"
import { Health } from "../../src/infra/runtime/Health.js"
import * as Authority from "../../src/local/Authority.js"
import * as Http from "../../src/ops/Http.js"
import * as Parts from "../../src/ops/Parts.js"
import { Backlog } from "../../src/outbox/Backlog.js"
import * as Harness from "../grpc/Harness.js"
import { until } from "../harness/Eventually.js"
import * as PgTest from "../harness/PgTest.js"
import * as Proxy from "../harness/Proxy.js"

const services = Layer.mergeAll(
  Backlog.Default,
  Parts.layer({ running: ["consumer", "grpc"], rights: {} }),
  Logger.remove(Logger.defaultLogger)
)

const fetchFrom = (port: number) => (path: string, method = "GET") =>
  Effect.promise(() => fetch(`http://127.0.0.1:${port}${path}`, { method })).pipe(
    Effect.flatMap((response) =>
      Effect.map(Effect.promise(() => response.text()), (body) => ({ status: response.status, body, response }))
    )
  )

const start = Effect.gen(function*() {
  const bound = yield* Deferred.make<number>()
  const server = yield* Http.serve({
    address: { host: "127.0.0.1", port: 0 },
    serviceName: "payments",
    listening: (port) => Deferred.succeed(bound, port)
  }).pipe(Effect.forkScoped)
  const port = yield* Effect.raceFirst(Deferred.await(bound), Fiber.join(server))
  return { port, server, get: fetchFrom(port) }
})

const valueOf = (text: string, series: string) => {
  const line = text.split("\n").find((line) => line.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

/** The errors in a text of the Prometheus format. */
const faults = (text: string): ReadonlyArray<string> => {
  const types = new Map<string, string>()
  const series = new Set<string>()
  const found: Array<string> = []
  for (const line of text.split("\n").filter((line) => line !== "")) {
    const [, name, type] = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line) ?? []
    if (name !== undefined && types.has(name)) found.push(`two types: ${line}`)
    if (name !== undefined) types.set(name, type!)
    if (line.startsWith("#")) continue
    const sample = /^([a-zA-Z_:][\w:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\]|\\.)*",?)*\})? (NaN|[+-]Inf|[-+.\de]+)$/.exec(line)
    if (sample === null) found.push(`no sample: ${line}`)
    const key = `${sample?.[1]}${sample?.[2] ?? ""}`
    if (series.has(key)) found.push(`twice: ${line}`)
    series.add(key)
    const base = sample?.[1]!.replace(/_(bucket|sum|count)$/, "")
    const typed = types.get(sample?.[1] ?? "") ?? (types.get(base ?? "") === "histogram" ? "histogram" : undefined)
    if (typed === undefined) found.push(`no type: ${line}`)
    if (typed === "counter" && !sample?.[1]!.endsWith("_total")) found.push(`counter without _total: ${line}`)
  }
  return found
}

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { excludeTestServices: true })(
  "operations HTTP",
  (it) => {
    it.scoped("/livez: 200, also as HEAD", () =>
      Effect.gen(function*() {
        const { get } = yield* start
        assert.strictEqual((yield* get("/livez")).status, 200)
        const head = yield* get("/livez?verbose", "HEAD")
        assert.deepStrictEqual([head.status, head.body], [200, ""])
      }))

    it.scoped("an idle connection outlives the 60 seconds of a load balancer", () =>
      Effect.gen(function*() {
        const { get } = yield* start
        const { response } = yield* get("/livez")
        const [, seconds] = /^timeout=(\d+)$/.exec(response.headers.get("keep-alive") ?? "") ?? []
        assert.isAbove(Number(seconds), 60)
      }))

    it.scoped("with TLS: HTTPS only, no renegotiation, and a renewed certificate counts for new connections", () =>
      Effect.gen(function*() {
        const authority = Authority.make("test authority")
        const folder = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "http-tls-"))),
          (path) => Effect.sync(() => rmSync(path, { recursive: true }))
        )
        const files = { prefix: "HTTP_TLS", cert: join(folder, "cert.pem"), key: join(folder, "key.pem") }
        const issue = () => {
          const { certificate, key } = authority.issue({ names: ["127.0.0.1"] })
          writeFileSync(files.key, key)
          writeFileSync(files.cert, certificate)
        }
        issue()
        const bound = yield* Deferred.make<number>()
        yield* Http.serve({
          address: { host: "127.0.0.1", port: 0 },
          tls: { ...files, every: "100 millis" },
          serviceName: "payments",
          listening: (port) => Deferred.succeed(bound, port)
        }).pipe(Effect.forkScoped)
        const port = yield* Deferred.await(bound)
        const livez = Effect.async<{ readonly status: number; readonly serial: string }>((resume) => {
          Https.get(
            { host: "127.0.0.1", port, path: "/livez", agent: false, ca: authority.certificate },
            (response) => {
              const { serialNumber: serial } = (response.socket as TLSSocket).getPeerCertificate()
              response.resume()
              resume(Effect.succeed({ status: response.statusCode!, serial }))
            }
          ).on("error", (error) => resume(Effect.die(error)))
        })
        const before = yield* livez
        assert.strictEqual(before.status, 200)
        assert.isTrue(yield* Effect.isFailure(Effect.tryPromise(() => fetch(`http://127.0.0.1:${port}/livez`))))
        issue()
        yield* until(livez, ({ serial }) => serial !== before.serial)
        const again = yield* Effect.async<string>((resume) => {
          const socket = NodeTls.connect(
            { host: "127.0.0.1", port, ca: authority.certificate, maxVersion: "TLSv1.2" },
            () => socket.renegotiate({}, (error) => resume(Effect.succeed(error === null ? "renegotiated" : "refused")))
          )
          socket.on("error", () => resume(Effect.succeed("refused"))).on(
            "close",
            () => resume(Effect.succeed("refused"))
          )
        })
        assert.strictEqual(again, "refused")
      }))

    it.scoped("unknown paths: 404; other methods: 405, with those that are allowed", () =>
      Effect.gen(function*() {
        const { get } = yield* start
        for (const path of ["/", "/healthz", "/livez/", "/constructor"]) {
          assert.strictEqual((yield* get(path)).status, 404, path)
        }
        for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
          const answer = yield* get("/readyz", method)
          assert.deepStrictEqual([answer.status, answer.response.headers.get("allow")], [405, "GET, HEAD"])
        }
      }))

    it.scoped("/readyz: 503 while something required is starting or away, and names it; /readyz/<role>: for a role", () =>
      Effect.gen(function*() {
        const context = yield* Layer.build(
          Layer.fresh(Parts.layer({ running: ["consumer", "grpc"], rights: {} }))
        )
        const health = Context.get(context, Health)
        const { get } = yield* start.pipe(Effect.provide(context))
        const ask = (path = "/readyz") => Effect.map(get(path), ({ body, status }) => ({ status, ...JSON.parse(body) }))
        const statuses = Effect.map(
          Effect.forEach(["/readyz", "/readyz/consumer", "/readyz/grpc", "/startedz"], (path) => get(path)),
          (all) => all.map(({ status }) => status)
        )

        const starting = yield* ask()
        assert.deepStrictEqual([starting.status, starting.ready], [503, false])
        assert.include(starting.dependencies["inventory-consumer"], {
          ok: false,
          required: true,
          state: "starting",
          reason: "starting"
        })
        assert.include(starting.dependencies["postgres"], { ok: true, required: true, state: "working" })
        assert.include(starting.dependencies["redis"], { ok: false, required: false, reason: "starting" })
        assert.strictEqual((yield* get("/readyz/relay")).status, 404, "this process has no relay")

        for (const name of ["migrations", "grpc-server"]) health.part(name).working()
        assert.deepStrictEqual(yield* statuses, [503, 503, 200, 503])
        for (const name of ["inventory-topics", "inventory-consumer"]) health.part(name).working()
        health.part("redis").failed({ reason: "redis", why: "redis is not available" })
        const ready = yield* ask()
        assert.deepStrictEqual([ready.status, ready.ready, ready.started], [200, true, true])
        assert.include(ready.dependencies["redis"], { ok: false, reason: "redis is not available" })
        assert.notProperty(ready.dependencies["inventory-consumer"], "reason")
        assert.deepStrictEqual(yield* statuses, [200, 200, 200, 200])

        // an outage of the brokers
        health.part("inventory-consumer").failed({ reason: "kafka", why: "no broker" })
        const away = yield* ask("/readyz/consumer")
        // `health.watch` does not run here: the scrape itself reads the state
        const scraped = (yield* get("/metrics")).body
        const consumer = "part=\"inventory-consumer\""
        assert.strictEqual(valueOf(scraped, `payments_ready{${consumer}}`), 0)
        assert.strictEqual(valueOf(scraped, `payments_stalled{${consumer},reason="kafka"}`), 1)
        assert.strictEqual(valueOf(scraped, "payments_ready{part=\"grpc-server\"}"), 1)
        assert.deepStrictEqual([away.status, away.dependencies["inventory-consumer"].reason], [503, "no broker"])
        assert.notProperty(away.dependencies, "grpc-server")
        assert.isFalse(Number.isNaN(Date.parse(away.dependencies["inventory-consumer"].since)))
        assert.deepStrictEqual(yield* statuses, [503, 503, 200, 200])
      }))

    it.scoped("/readyz: a flood of requests causes few queries", () =>
      Effect.gen(function*() {
        const asked = yield* Ref.make(0)
        const context = yield* Layer.build(
          Health.Default({ parts: { postgres: { roles: [], probe: Ref.update(asked, (n) => n + 1) } } })
        )
        const { get } = yield* start.pipe(Effect.provide(context))
        yield* Effect.all(Array.from({ length: 200 }, () => get("/readyz")), { concurrency: 20 })
        assert.isBelow(yield* Ref.get(asked), 20)
      }))

    it.scoped("a database that is away: not ready in time, and metrics still answer, without unknown values", () =>
      Effect.gen(function*() {
        const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
        yield* Effect.gen(function*() {
          const { get } = yield* start
          const health = yield* Health
          for (const name of ["migrations", "grpc-server", "inventory-topics", "inventory-consumer"]) {
            health.part(name).working()
          }
          assert.strictEqual((yield* get("/readyz")).status, 200)
          yield* proxy.set("silent")
          const away = yield* until(get("/readyz"), (_) => _.status === 503)
          assert.include(JSON.parse(away.body).dependencies.postgres, {
            ok: false,
            reason: "the database is not available: statement took too long"
          })
          assert.strictEqual((yield* get("/livez")).status, 200)
          const { body, status } = yield* get("/metrics")
          assert.strictEqual(status, 200)
          assert.strictEqual(valueOf(body, "payments_backlog_known"), 0)
          assert.isUndefined(valueOf(body, "payments_events_waiting"))
          assert.notInclude(body, "NaN")
          assert.isEmpty(faults(body))
          yield* proxy.set("refuse")
          yield* proxy.set("pass")
          yield* until(get("/readyz"), (_) => _.status === 200)
        }).pipe(Effect.provide(Layer.fresh(services).pipe(Layer.provide(Harness.postgresAt(proxy.port)))))
      }))

    it.scoped("/metrics: valid, with the backlog, the process, counters and histograms", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`
          INSERT INTO event (topic, payload, order_id, status, created_at) VALUES
            ('payment', '', 1, 'WAIT', clock_timestamp() - interval '2 minutes'),
            ('payment', '', 2, 'WAIT', clock_timestamp()),
            ('payment', '', 3, 'DEAD', clock_timestamp() - interval '1 hour'),
            ('payment', '', 4, 'DONE', clock_timestamp() - interval '1 hour')
        `
        const histogram = Metric.histogram("test_duration_seconds", MetricBoundaries.fromIterable([0.1, 1]))
        const counter = Metric.counter("test_total", { incremental: true, description: "a \"test\"\nof two lines" })
        yield* Metric.update(Metric.tagged(histogram, "method", "a\"b\\c\nd"), 0.5)
        yield* Metric.update(Metric.tagged(histogram, "method", "a\"b\\c\nd"), 5)
        yield* Metric.increment(counter)
        const { get } = yield* start.pipe(Effect.provide(Layer.fresh(Backlog.Default)))
        const { body, response } = yield* get("/metrics")
        assert.strictEqual(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8")
        assert.isEmpty(faults(body), body)
        assert.notInclude(body, "effect_fiber")
        assert.strictEqual(valueOf(body, "payments_backlog_known"), 1)
        assert.strictEqual(valueOf(body, "payments_events_waiting"), 2)
        assert.strictEqual(valueOf(body, "payments_events_dead"), 1)
        assert.approximately(valueOf(body, "payments_oldest_event_waiting_seconds")!, 120, 10)
        assert.isAbove(valueOf(body, "payments_process_resident_memory_bytes")!, 1e7)
        assert.isAbove(valueOf(body, "payments_process_uptime_seconds")!, 0)
        assert.isAtLeast(valueOf(body, "payments_event_loop_delay_p99_seconds")!, 0)
        assert.strictEqual(valueOf(body, "test_total"), 1)
        const method = "method=\"a\\\"b\\\\c\\nd\""
        assert.strictEqual(valueOf(body, `test_duration_seconds_bucket{${method},le="0.1"}`), 0)
        assert.strictEqual(valueOf(body, `test_duration_seconds_bucket{${method},le="1"}`), 1)
        assert.strictEqual(valueOf(body, `test_duration_seconds_bucket{${method},le="+Inf"}`), 2)
        assert.strictEqual(valueOf(body, `test_duration_seconds_count{${method}}`), 2)
        assert.strictEqual(valueOf(body, `test_duration_seconds_sum{${method}}`), 5.5)
        const again = yield* get("/metrics")
        assert.strictEqual(
          valueOf(again.body, "payments_http_requests_total{path=\"/metrics\",status=\"200\"}")! >= 1,
          true
        )
      }))

    it.scoped("a port in use is a typed error with its solution", () =>
      Effect.gen(function*() {
        const { port } = yield* start
        const error = yield* Effect.flip(
          Http.serve({ address: { host: "127.0.0.1", port }, serviceName: "payments" })
        )
        assert.instanceOf(error, AddressInUse)
        assert.include(error.message, `127.0.0.1:${port}`)
        assert.include(error.message, "HTTP_ADDR")
      }))

    it.scoped("a stop does not wait for an idle connection", () =>
      Effect.gen(function*() {
        const { port, server } = yield* start
        const socket = yield* Effect.async<Net.Socket>((resume) => {
          const socket = Net.connect(port, "127.0.0.1")
          socket.write("GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHost: half")
          // response to the first request, while half of the second has arrived
          socket.on("error", () => {}).once("data", () => resume(Effect.succeed(socket)))
        })
        yield* Fiber.interrupt(server).pipe(Effect.timeout("10 seconds"))
        socket.destroy()
        const error = yield* Effect.flip(Effect.tryPromise(() => fetch(`http://127.0.0.1:${port}/livez`)))
        assert.include(String(error.error), "fetch failed")
      }))
  }
)
