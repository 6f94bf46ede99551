import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option, Redacted, Tracer } from "effect"
import { randomUUID } from "node:crypto"
import { OrderId } from "../../src/domain/Payment.js"
import * as Trace from "../../src/infra/runtime/Trace.js"
import * as Telemetry from "../../src/ops/Telemetry.js"
import type { Published } from "../../src/outbox/leased/EventPublisher.js"
import { EventPublisher } from "../../src/outbox/leased/EventPublisher.js"
import * as KafkaPublisher from "../../src/outbox/leased/KafkaPublisher.js"
import * as Relay from "../../src/outbox/leased/Relay.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import type { OutboxEvent } from "../../src/outbox/OutboxEvent.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import * as Collector from "../harness/Collector.js"
import { until } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as Fixtures from "./Fixtures.js"
import { claimed, expire, fresh, serve, TestLayer } from "./sharded/ShardFixtures.js"

const traceId = "3".repeat(32)
const created = "4".repeat(16)

/** Sends the spans of an effect to the collector, before it ends. */
const telemetry = (url: string) =>
  Telemetry.layer({
    endpoint: Option.some(Redacted.make(url)),
    headers: Option.none(),
    serviceName: "payments",
    attributes: Option.none()
  })

const realPublisher = Layer.suspend(() => KafkaPublisher.layer(KafkaTest.kafka()))

/** A publisher that gets no answer from the broker. */
const unanswered = Layer.succeed(EventPublisher, {
  open: Effect.succeed({
    publish: (events: ReadonlyArray<OutboxEvent>) =>
      Effect.succeed<Published>({ sent: [], unsent: [], undecided: events, refused: [] })
  })
})

const relay = Relay.serve({
  batchSize: 500,
  lease: "30 seconds",
  pollInterval: "20 millis",
  drainTimeout: "10 seconds",
  part: Fixtures.part(),
  listener: Fixtures.part()
})

const rows = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    sql<{ readonly id: string; readonly status: string; readonly lease_token: string | null }>`
    SELECT id, status, lease_token FROM event ORDER BY id
  `
)

/** Runs an effect in the background until the rows of the outbox are so. Returns them. */
const whileRows = <E, R>(
  background: Effect.Effect<unknown, E, R>,
  holds: (all: Effect.Effect.Success<typeof rows>) => boolean
) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkScoped(background)
    const found = yield* until(rows, holds)
    yield* Fiber.interrupt(fiber)
    return found
  }).pipe(Effect.scoped)

const allDone = (all: Effect.Effect.Success<typeof rows>) => all.every(({ status }) => status === "DONE")

const withContext = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`UPDATE event SET traceparent = ${`00-${traceId}-${created}-01`}`
)

const sends = (spans: ReadonlyArray<Collector.Span>) =>
  spans.filter(({ name, traceId: _ }) => _ === traceId && name.startsWith("send "))

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("EventSpans", (it) => {
  it.scoped("a resend links to the attempt that got no answer: at least once", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const topic = yield* KafkaTest.freshTopic()
      const [id] = yield* Fixtures.append([1], { topic })
      yield* withContext
      const collector = yield* Collector.make
      const traced = Effect.provide(telemetry(collector.url))
      const [row] = yield* whileRows(
        traced(Effect.provide(relay, unanswered)),
        () => sends(collector.spans()).length > 0
      )
      yield* Fixtures.expireLeases
      yield* whileRows(traced(Effect.provide(relay, realPublisher)), allDone)

      const [first, second] = sends(collector.spans())
      assert.strictEqual(first!.attributes["error.type"], "undecided")
      assert.strictEqual(first!.spanId, Trace.spanIdOf(`${row!.lease_token} ${id}`))
      assert.deepInclude(second!.links, { traceId, spanId: first!.spanId })
      assert.deepInclude(second!.links, { traceId, spanId: created })
      assert.deepStrictEqual([second!.failed, second!.attributes["kafka.offset"]], [false, 0])
      // the relay sends many events together, in a trace of its own
      const batch = collector.spans().find(({ name }) => name === "Relay.look" || name === "Relay.receive")!
      assert.isTrue(second!.links.some((link) => link.traceId !== traceId), batch.name)
    }))

  it.scoped("a resend links to the attempt whose transaction was aborted: exactly once", () =>
    Effect.gen(function*() {
      yield* fresh
      const topic = yield* KafkaTest.freshTopic()
      const { batch, ids, outgoing, owned, transactions } = yield* claimed(topic, 1)
      yield* withContext
      yield* transactions.send(outgoing, batch.number)
      yield* expire
      const collector = yield* Collector.make
      yield* whileRows(Effect.provide(serve(topic), telemetry(collector.url)), allDone)

      const [send] = sends(collector.spans())
      const spanIdOf = (number: bigint) => Trace.spanIdOf(`${owned.name} ${number} ${ids[0]}`)
      assert.deepInclude(send!.links, { traceId, spanId: spanIdOf(batch.number) })
      assert.strictEqual(send!.spanId, spanIdOf(batch.number + 1n))
      assert.isFalse(send!.failed)
    }))

  it.scoped("a refused event has a span with the broker's error", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const topic = yield* KafkaTest.freshTopic({ "max.message.bytes": "10" })
      yield* Fixtures.append([1], { topic })
      yield* withContext
      const collector = yield* Collector.make
      yield* whileRows(
        Effect.provide(Effect.provide(relay, realPublisher), telemetry(collector.url)),
        () => sends(collector.spans()).length > 0
      )
      const [send] = sends(collector.spans())
      assert.deepStrictEqual([send!.failed, send!.attributes["error.type"]], [true, "MESSAGE_TOO_LARGE"])
      assert.isUndefined(send!.attributes["kafka.offset"])
    }))

  it.scoped("without a collector no span is made, and no statement reads more for one", () =>
    Effect.gen(function*() {
      yield* Fixtures.clear
      const made: Array<string> = []
      const native = yield* Effect.tracer
      const counting = Tracer.make({
        context: native.context,
        span: (name, ...rest) => {
          made.push(name)
          return native.span(name, ...rest)
        }
      })
      const off = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        effect.pipe(Effect.withTracer(counting), Effect.withTracerEnabled(false))
      const traceparent = `00-${traceId}-${created}-01`
      const orderId = OrderId.make(5n)
      const flow = Effect.gen(function*() {
        const payments = yield* Payments
        yield* payments.reserve([{ orderId, idempotentKey: randomUUID(), traceparent: Option.some(traceparent) }])
        yield* payments.settle(orderId, "COMPLETED")
        const claim = yield* (yield* Outbox).claim(10)
        assert.lengthOf(claim.events, 1)
        // the row keeps the context of the inventory record, and the event has nothing for spans
        assert.deepStrictEqual(Object.keys(claim.events[0]!).sort(), [
          "generation",
          "id",
          "key",
          "payload",
          "reason",
          "sight",
          "topic",
          "traceparent"
        ])
        assert.strictEqual(claim.events[0]!.traceparent, traceparent)
      })
      const services = Layer.provide(Payments.Default, PaymentRepo.Default)
      const context = yield* off(Layer.build(services))
      yield* off(Effect.provide(flow, Context.merge(context, yield* Effect.context<Outbox | SqlClient.SqlClient>())))
      assert.deepStrictEqual(made, [])
    }))
})
