import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import type { Scope } from "effect"
import { Array as Arr, Effect, Layer, Logger } from "effect"
import * as Kafka from "../../src/infra/kafka/KafkaClient.js"
import type { Database } from "../../src/infra/postgres/Postgres.js"
import type { Part } from "../../src/infra/runtime/Health.js"
import { make as makeHealth } from "../../src/infra/runtime/Health.js"
import type { BrokerContact } from "../../src/outbox/BrokerContact.js"
import * as KafkaPublisher from "../../src/outbox/leased/KafkaPublisher.js"
import * as Relay from "../../src/outbox/leased/Relay.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import type { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { Refusals } from "../../src/outbox/Refusals.js"
import type { ShardBatches } from "../../src/outbox/sharded/ShardBatches.js"
import type { ShardOwners } from "../../src/outbox/sharded/ShardOwners.js"
import type { Spreads } from "../../src/outbox/Spreads.js"
import { until } from "../harness/Eventually.js"
import * as KafkaAnswers from "../harness/KafkaAnswers.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as Fixtures from "./Fixtures.js"
import * as ShardFixtures from "./sharded/ShardFixtures.js"

type Needs =
  | Database
  | Outbox
  | OutboxWake
  | Refusals
  | Scope.Scope
  | ShardBatches
  | ShardOwners
  | Spreads
  | BrokerContact

/** The two relays. Each has to pass every test here. */
const relays: Readonly<Record<string, (topic: string, part: Part) => Effect.Effect<never, unknown, Needs>>> = {
  "at-least-once": (_, part) =>
    Relay.serve({
      batchSize: 500,
      lease: "30 seconds",
      pollInterval: "20 millis",
      drainTimeout: "10 seconds",
      part,
      listener: Fixtures.part()
    }).pipe(Effect.provide(Layer.suspend(() => KafkaPublisher.layer(KafkaTest.kafka())))),
  "exactly-once": (topic, part) => ShardFixtures.serve(topic, { part })
}

/** Answers of a broker through no fault of an event, by the request. */
const refusals = [
  ["Produce", KafkaAnswers.errors.notEnoughReplicas],
  ["Produce", KafkaAnswers.errors.topicAuthorizationFailed],
  ["InitProducerId", KafkaAnswers.errors.transactionalIdAuthorizationFailed]
] as const

/** The relay runs, and has 20 events to publish to a fresh topic. */
const start = Effect.fnUntraced(function*(relay: (typeof relays)[string]) {
  yield* ShardFixtures.fresh
  const topic = yield* KafkaTest.freshTopic()
  yield* Fixtures.append(Arr.range(1, 20), { topic })
  const [lines, logger] = Fixtures.logs()
  const health = yield* makeHealth({ parts: { "outbox-relay": { roles: ["relay"] } } })
  yield* Effect.all([relay(topic, health.part("outbox-relay")), health.watch], { concurrency: "unbounded" }).pipe(
    Effect.provide(logger),
    Effect.forkScoped
  )
  return { topic, lines, health } as const
})

const noAttempt = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  assert.isEmpty(yield* sql`SELECT FROM event WHERE attempts > 0`)
})

const count = 507

/** Lines of the log, with their fields. */
const annotated = () => {
  const lines: Array<{ readonly message: string; readonly fields: Readonly<Record<string, any>> }> = []
  const logger = Logger.make(({ annotations, logLevel, message }) => {
    if (logLevel.label === "DEBUG") return
    lines.push({ message: [message].flat().join(" "), fields: Object.fromEntries(annotations) })
  })
  return [lines, Logger.replace(Logger.defaultLogger, logger)] as const
}

layer(ShardFixtures.TestLayer, { timeout: "60 seconds", excludeTestServices: true })("faults of brokers", (it) => {
  it.scoped(`a broker refuses ${count} events: all are dead after their attempts, and one log line counts them`, () =>
    Effect.gen(function*() {
      yield* ShardFixtures.fresh
      const topic = yield* KafkaTest.freshTopic({ "max.message.bytes": "150" })
      yield* Fixtures.append(Arr.range(1, count), { topic })
      const [lines, logger] = annotated()
      yield* Effect.gen(function*() {
        yield* Effect.forkScoped(relays["at-least-once"]!(topic, Fixtures.part()))
        yield* until(ShardFixtures.count("DEAD"), (n) => n === count)
      }).pipe(
        Effect.scoped,
        Effect.provide(
          Layer.fresh(Refusals.Default).pipe(
            Layer.merge(Outbox.Default({ ...Fixtures.options, maxAttempts: 1 })),
            Layer.provideMerge(logger)
          )
        )
      )
      const about = lines.filter(({ fields }) => fields["count"] !== undefined)
      assert.deepStrictEqual(lines, about)
      // a second one only where the broker took longer than the 5 s in which a line gathers
      assert.isAtMost(lines.length, 2)
      assert.strictEqual(lines.reduce((sum, { fields }) => sum + fields["count"], 0), count)
      for (const { fields, message } of lines) {
        assert.match(message, /^\d+ events are dead: their orders wait for an operator$/)
        assert.lengthOf(fields["examples"], 3)
        for (const example of fields["examples"]) {
          assert.deepStrictEqual(Object.keys(example), ["event_id", "order_id", "reason"])
          assert.match(example.reason, /MESSAGE_TOO_LARGE/)
        }
      }
    }))

  for (const [delivery, relay] of Object.entries(relays)) {
    it.scoped(`${delivery}: the database's clock is two hours ahead of the brokers': records go without a time`, () =>
      Effect.gen(function*() {
        yield* Fixtures.databaseAhead("2 hours")
        const { lines, topic } = yield* start(relay)
        yield* until(ShardFixtures.count("DONE"), (n) => n === 20)
        yield* noAttempt
        const records = yield* until(ShardFixtures.records(topic), ({ length }) => length >= 20)
        assert.isTrue(records.every(({ timestamp }) => timestamp === "-1"))
        assert.lengthOf(lines.filter((line) => line.includes("refuses the time of our records")), 1)
      }))

    for (const [request, fault] of refusals) {
      it.scoped(
        `${delivery}: a broker answers ${request} with ${
          Kafka.reason(fault())
        }: reported once with its word, no attempt, then over`,
        () =>
          Effect.gen(function*() {
            let refuses = true
            yield* KafkaAnswers.between((asked, ask) => refuses && asked === request ? Promise.reject(fault()) : ask())
            const { health, lines } = yield* start(relay)
            const word = Kafka.reason(fault())
            const reported = () => lines.filter((line) => line.includes(word)).length
            yield* until(Effect.sync(reported), (n) => n === 1)
            const shown = Effect.map(health.current("relay"), ({ dependencies }) => dependencies["outbox-relay"]!)
            // other lanes and attempts begin meanwhile: none may say that all is well
            const seen = yield* Effect.replicateEffect(Effect.zipLeft(shown, Effect.sleep("30 millis")), 30)
            for (const { reason, state } of seen) {
              assert.strictEqual(state, "waiting")
              assert.include(reason, word)
            }
            assert.lengthOf(new Set(seen.map(({ since }) => since)), 1)
            refuses = false
            yield* until(ShardFixtures.count("DONE"), (n) => n === 20)
            yield* until(shown, ({ ok }) => ok)
            assert.strictEqual(reported(), 1)
            yield* until(
              Effect.sync(() => lines.filter((line) => line.startsWith("no longer waiting for ")).length),
              (n) => n === 1
            )
            yield* noAttempt
          })
      )
    }
  }
})
