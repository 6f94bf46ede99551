import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Tracer } from "effect"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { parse as parseYaml } from "yaml"
import * as PaymentsClient from "../../src/grpc/PaymentsClient.js"
import * as Trace from "../../src/infra/runtime/Trace.js"
import * as Authority from "../../src/local/Authority.js"
import type { Span } from "../harness/Collector.js"
import * as Collector from "../harness/Collector.js"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as PromQL from "../harness/PromQL.js"
import * as Tables from "../harness/Tables.js"
import type { Read } from "../harness/Topics.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

const context = (digit: string) => ({ traceId: digit.repeat(32), spanId: digit.repeat(16), sampled: true })
const [producer, caller, unsampled] = [context("1"), context("2"), { ...context("5"), sampled: false }]

const one = (spans: ReadonlyArray<Span>, name: string) => {
  const found = spans.filter((span) => span.name === name)
  assert.lengthOf(found, 1, `${name} in\n${Collector.tree(spans).join("\n")}`)
  return found[0]!
}

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string) => readFileSync(join(root, path), "utf8")
const runbook = read("docs/runbook.md")

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: { readonly summary: string; readonly runbook_url: string }
}
const rules: ReadonlyArray<Rule> = parseYaml(read("deploy/prometheus/rules.yml")).groups.flatMap((_: any) => _.rules)
const panels: ReadonlyArray<{ readonly title: string; readonly targets?: ReadonlyArray<{ readonly expr: string }> }> =
  JSON.parse(read("deploy/grafana/payments.json")).panels

/** The lines of the runbook's code, each once. */
const commands = [
  ...new Set(
    [...runbook.matchAll(/^ *```sh\n([^]*?)^ *```$/gm)].flatMap(([, block]) => block!.trim().split(/\s*\n\s*/))
  )
]

/** A certificate for 127.0.0.1 in files, and the authority that signed it. */
const certificate = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "watched-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  ),
  (folder) => {
    const authority = Authority.make("watched")
    const own = authority.issue({ names: ["127.0.0.1"] })
    const env = { GRPC_TLS_CERT: join(folder, "cert.pem"), GRPC_TLS_KEY: join(folder, "key.pem") }
    writeFileSync(env.GRPC_TLS_CERT, own.certificate)
    writeFileSync(env.GRPC_TLS_KEY, own.key)
    return { env, authority: authority.certificate }
  }
)

/** What can be seen of a program with this delivery while an order goes through it, until it has ended. */
const observe = Effect.fnUntraced(function*(delivery: "at-least-once" | "exactly-once") {
  const world = yield* World.make()
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const headers = (span: typeof producer) => ({ traceparent: Trace.show(Tracer.externalSpan(span)) })
  const first = yield* topics.writeAll(world.inventory, 1, [{
    value: Topics.reserved(111),
    headers: headers(producer)
  }])
  yield* topics.writeAll(world.inventory, 3, [{ value: Topics.reserved(114), headers: headers(unsampled) }])
  const others = [{ value: Topics.reserved(112) }, { value: Topics.reserved(113) }, { value: "no event" }]
  yield* topics.writeAll(world.inventory, 2, others)
  const collector = yield* Collector.make
  // its certificate is in the metrics
  const tls = delivery === "exactly-once" ? yield* certificate : undefined
  const program = yield* Program.serve([], {
    ...world.env,
    ...(tls === undefined
      ? {}
      : tls.env),
    OUTBOX_DELIVERY: delivery,
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url
  })
  const published = yield* topics.follow(world.payment)
  const records = (count: number) => Effect.sync(() => assert.lengthOf(published, count)).pipe(eventually("40 seconds"))
  yield* records(4)
  const [host, port] = program.grpc.split(":")
  const client = yield* PaymentsClient.make(
    { host: host!, port: Number(port) },
    tls === undefined ? {} : { tls: { context: { ca: tls.authority } } }
  )
  yield* client.updatePaymentStatus(111n, "COMPLETED").pipe(
    Effect.withParentSpan(Tracer.externalSpan(caller)),
    Effect.withTracerEnabled(false)
  )
  yield* Effect.flip(client.updatePaymentStatus(404n, "COMPLETED"))
  yield* records(5)

  // the fault of the runbook's commands: an event that the broker has refused for good
  const tables = yield* Tables.make(world.databaseUrl)
  const env = { ...world.env, GRPC_ADDR: program.grpc, HTTP_ADDR: `127.0.0.1:${program.httpPort}` }
  if (delivery === "at-least-once") {
    yield* tables.query(`
      UPDATE event SET status = 'DEAD', attempts = 10, last_error = 'MESSAGE_TOO_LARGE', done_at = NULL WHERE order_id = 112
    `)
  }
  const ran = delivery === "exactly-once"
    ? []
    : yield* Effect.forEach(
      commands,
      (line) => Effect.map(Program.shell(line, env), (result) => ({ line, ...result }))
    )
  const repaired = yield* tables.query("SELECT FROM event WHERE order_id = 112 AND status = 'DONE'").pipe(
    Effect.filterOrFail(({ length }) => length === 1),
    eventually("10 seconds"),
    Effect.isSuccess
  )
  const scrape = (yield* program.get("/metrics")).body

  // the program sends the rest of its spans before it ends
  yield* program.signal("SIGTERM")
  assert.strictEqual((yield* program.ended).code, 0, program.stderr())
  const of = (order: number, status: string): Read =>
    published.find((record) => record.key?.toString() === String(order) && Topics.body(record).status === status)!
  const spans = collector.spans()
  return {
    world,
    first,
    spans,
    scrape,
    ran,
    repaired,
    created: of(111, "CREATED"),
    completed: of(111, "COMPLETED"),
    ofUnsampled: of(114, "CREATED"),
    trace: (traceId: string) => spans.filter((span) => span.traceId === traceId)
  } as const
})

const setup = Effect.all({ "at-least-once": observe("at-least-once"), "exactly-once": observe("exactly-once") }, {
  concurrency: "unbounded"
})

class Observed extends Context.Tag("test/Observed")<Observed, Effect.Effect.Success<typeof setup>>() {}

/** The labels of each metric in a text of the Prometheus format, with their values. */
const seriesOf = (text: string) => {
  const metrics = new Map<string, Map<string, Set<string>>>()
  for (const [, name, labels = ""] of text.matchAll(/^(\w+)(?:\{(.*)\})? \S+$/gm)) {
    const known = metrics.get(name!) ?? new Map<string, Set<string>>()
    metrics.set(name!, known)
    for (const [, label, value] of labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      known.set(label!, (known.get(label!) ?? new Set()).add(value!))
    }
  }
  return metrics
}

/** Prometheus itself adds these to what it scrapes. */
const ofPrometheus = { metrics: ["up", "ALERTS"], labels: ["instance", "job"] }

/** The names of the conventions that are not deprecated, and the two old ones that stand beside their successors. */
const names = () => {
  const folder = dirname(createRequire(import.meta.url).resolve("@opentelemetry/semantic-conventions"))
  const text = ["stable", "experimental"]
    .map((part) => readFileSync(join(folder, `${part}_attributes.d.mts`), "utf8"))
    .join("\n")
  const known = text.matchAll(/\/\*\*((?:(?!\*\/)[^])*)\*\/\s*declare const \w+: "([\w.]+)";/g)
  const current = [...known].filter(([, doc]) => !doc!.includes("@deprecated")).map(([, , name]) => name)
  return new Set([...current, "messaging.system", "messaging.kafka.offset"])
}

layer(Layer.scoped(Observed, setup), { timeout: "300 seconds", excludeTestServices: true })(
  "a watched program",
  (it) => {
    it.effect.each(["at-least-once", "exactly-once"] as const)(
      "one trace from the inventory record to the payment record, with the time in the outbox: %s",
      (delivery) =>
        Effect.gen(function*() {
          const { completed, created, first, ofUnsampled, spans, trace, world } = (yield* Observed)[delivery]
          const order = trace(producer.traceId)
          const process = one(order, `process ${world.inventory}`)
          const create = one(order, `create ${world.payment}`)
          const outbox = one(order, `outbox ${world.payment}`)
          const send = one(order, `send ${world.payment}`)

          assert.deepStrictEqual(
            [process, create, outbox, send].map(({ kind }) => kind),
            ["consumer", "producer", "internal", "client"]
          )
          assert.deepStrictEqual(
            [process, create, outbox, send].map(({ parentSpanId }) => parentSpanId),
            [producer.spanId, process.spanId, create.spanId, create.spanId]
          )
          assert.deepInclude(process.attributes, {
            "messaging.system.name": "kafka",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": world.inventory,
            "messaging.destination.partition.id": "1",
            "kafka.offset": first,
            "messaging.consumer.group.name": world.group,
            "messaging.client.id": "payments"
          })
          assert.deepInclude(send.attributes, {
            "messaging.system.name": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": world.payment,
            "messaging.destination.partition.id": String(created.partition),
            "kafka.offset": Number(created.offset),
            "kafka.message.key": "111",
            "messaging.message.id": created.headers["event-id"]!.toString()
          })
          // the reader of the record continues this trace
          assert.strictEqual(created.headers["traceparent"]!.toString(), `00-${producer.traceId}-${create.spanId}-01`)
          assert.deepInclude(process.links, { traceId: producer.traceId, spanId: producer.spanId })
          assert.deepInclude(send.links, { traceId: producer.traceId, spanId: create.spanId })
          assert.isTrue(outbox.start < outbox.end && outbox.end === send.start)

          // the statement is inside, because the record was alone in its batch
          const insert = one(order, "INSERT payment INSERT event")
          assert.deepInclude(insert.attributes, { "db.system.name": "postgresql", "server.address": "127.0.0.1" })
          assert.strictEqual(insert.attributes["db.namespace"], new URL(world.databaseUrl).pathname.slice(1))
          assert.include(insert.attributes["db.query.text"], "INSERT INTO payment")

          // records without a producer's context have a trace each; their batch works in that of the first
          const others = spans.filter(({ attributes, name }) =>
            name === `process ${world.inventory}` && attributes["messaging.destination.partition.id"] === "2"
          )
          assert.lengthOf(new Set(others.map(({ traceId }) => traceId)), 3)
          const [leader, follower, malformed] = others.sort((a, b) =>
            Number(a.attributes["kafka.offset"]) - Number(b.attributes["kafka.offset"])
          )
          const batch = one(trace(leader!.traceId), "InventoryConsumer.take")
          assert.deepInclude(follower!.links, { traceId: leader!.traceId, spanId: batch.spanId })
          assert.deepInclude(batch.links, { traceId: follower!.traceId, spanId: follower!.spanId })
          assert.deepStrictEqual([follower!.failed, malformed!.failed], [false, true])
          assert.strictEqual(malformed!.attributes["error.type"], "malformed")
          assert.strictEqual(one(trace(leader!.traceId), `send ${world.dlq}`).kind, "client")
          assert.lengthOf(trace(follower!.traceId), 4)

          // the call of a client continues the client's trace
          const call = trace(caller.traceId)
          const server = one(call, "paymentsapi.PaymentsApi/UpdatePaymentStatus")
          assert.deepStrictEqual([server.kind, server.parentSpanId], ["server", caller.spanId])
          assert.deepInclude(server.attributes, {
            "rpc.system.name": "grpc",
            "rpc.method": "paymentsapi.PaymentsApi/UpdatePaymentStatus",
            "rpc.status_code": "OK"
          })
          assert.strictEqual(one(call, "UPDATE payment INSERT event").kind, "client")
          assert.strictEqual(
            completed.headers["traceparent"]!.toString(),
            `00-${caller.traceId}-${one(call, `create ${world.payment}`).spanId}-01`
          )
          assert.strictEqual(one(call, `send ${world.payment}`).attributes["kafka.offset"], Number(completed.offset))
          const refused = spans.find(({ attributes }) => attributes["rpc.status_code"] === "NOT_FOUND")!
          assert.isFalse(refused.failed)

          // whoever begins a trace decides whether it is sampled
          assert.deepStrictEqual(trace(unsampled.traceId), [])
          assert.match(
            ofUnsampled.headers["traceparent"]!.toString(),
            new RegExp(`^00-${unsampled.traceId}-[0-9a-f]{16}-00$`)
          )

          const known = names()
          const used = new Set(spans.flatMap(({ attributes }) => Object.keys(attributes)))
          for (const name of used) {
            if (/^(messaging|kafka|rpc|db|server)\./.test(name)) assert.isTrue(known.has(name), name)
          }
        })
    )

    it.effect("every expression of the rules and of the dashboard reads series that the program has", () =>
      Effect.gen(function*() {
        const observed = yield* Observed
        const series = seriesOf(`${observed["at-least-once"].scrape}\n${observed["exactly-once"].scrape}`)
        const expressions = [
          ...rules.map(({ alert, expr }) => [alert, expr] as const),
          ...panels.flatMap(({ targets = [], title }) => targets.map(({ expr }) => [title, expr] as const))
        ]
        for (const [where, text] of expressions) {
          const { broken, groupings, selectors } = PromQL.parse(text.replaceAll("$__rate_interval", "5m"))
          assert.isFalse(broken, `${where}: ${text}`)
          assert.isNotEmpty(selectors, where)
          const labelsOf = (metric: string) => [...(series.get(metric)?.keys() ?? []), ...ofPrometheus.labels]
          for (const { equal, labels, metric } of selectors) {
            if (ofPrometheus.metrics.includes(metric)) continue
            assert.isTrue(series.has(metric), `${where}: the program has no ${metric}`)
            for (const label of labels) assert.include(labelsOf(metric), label, `${where}: ${metric}`)
            for (const [label, value] of equal) {
              assert.include([...series.get(metric)!.get(label)!], value, `${where}: ${metric} ${label}`)
            }
          }
          for (const { labels, of } of groupings) {
            for (const label of labels) assert.include(of.flatMap(({ metric }) => labelsOf(metric)), label, where)
          }
        }
      }))

    it.effect("each alert has a section of the runbook, and each section of an alert names it", () =>
      Effect.sync(() => {
        const sections = runbook.split(/^## /m).slice(1)
        const byAnchor = new Map(sections.map((section) => {
          const [heading] = section.split("\n")
          return [heading!.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-"), section]
        }))
        for (const { alert, annotations, labels } of rules) {
          const [page, anchor] = annotations.runbook_url.split("#")
          assert.strictEqual(page, "docs/runbook.md")
          const section = byAnchor.get(anchor!)
          assert.match(section ?? "", new RegExp(`^Alert \`${alert}\``, "m"), anchor)
          for (const part of ["Symptom", "Meaning", "Command", "Fix"]) {
            assert.match(section!, new RegExp(`\\*\\*.*${part}`, "i"))
          }
          assert.include(["page", "ticket"], labels["severity"])
        }
        const named = [...runbook.matchAll(/^Alert `(\w+)`/gm)].map((_) => _[1])
        assert.sameMembers(named, rules.map((_) => _.alert))
        // promtool fires each of them; .ci/run runs it where it is installed
        assert.include(read("deploy/prometheus/rules.test.yml"), `value: ${rules.length} }`)
      }))

    it.effect("every command of the runbook runs, and releases the dead event", () =>
      Effect.gen(function*() {
        const { ran, repaired } = (yield* Observed)["at-least-once"]
        assert.isAbove(ran.length, 10)
        // findings are not failures of the command
        for (const { code, line, stderr, stdout } of ran) {
          const allowed = /^payments (doctor|audit)/.test(line) ? [0, 1] : [0]
          assert.include(allowed, code, `${line}\n${stdout}\n${stderr}`)
        }
        assert.isTrue(repaired, "the event is not DONE")
      }))
  }
)
