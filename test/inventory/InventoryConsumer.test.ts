import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, Metric, Redacted } from "effect"
import type { Message } from "kafkajs"
import { CompressionTypes, Kafka } from "kafkajs"
import { createHash, randomUUID } from "node:crypto"
import { inject } from "vitest"
import { Redis } from "../../src/infra/redis/Redis.js"
import { make as makeHealth } from "../../src/infra/runtime/Health.js"
import { Dedupe } from "../../src/inventory/Dedupe.js"
import * as InventoryConsumer from "../../src/inventory/InventoryConsumer.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import { eventually } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import type { Read } from "../harness/Topics.js"
import * as Topics from "../harness/Topics.js"

const services = Layer.merge(
  Payments.Default.pipe(
    Layer.provide(PaymentRepo.Default),
    Layer.provide(Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })),
    Layer.provide(OutboxWake.layerLocal)
  ),
  Layer.unwrapEffect(
    Effect.sync(() =>
      Dedupe.layer({ ttl: "1 hour" }).pipe(Layer.provide(Redis.layer({ url: Redacted.make(inject("redisUrl")) })))
    )
  )
)

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")

/** A consumer of a new topic, with this dead-letter topic. */
const make = Effect.fnUntraced(function*(dlq: string) {
  const inventory = yield* KafkaTest.freshTopic()
  const topics = yield* Topics.make(inject("kafkaBrokers"))
  const group = `test-${randomUUID()}`
  const lines: Array<string> = []
  const waits: Array<string> = []
  const fields: Array<Record<string, unknown>> = []
  const health = yield* makeHealth({ parts: { "inventory-consumer": { roles: ["consumer"] } } })
  const part = health.part("inventory-consumer")
  const consumer = yield* Effect.all([
    InventoryConsumer.serve({
      ...KafkaTest.kafka(),
      groupId: group,
      sessionTimeout: Duration.seconds(10),
      topic: inventory,
      dlqTopic: dlq,
      acceptStatuses: ["COMPLETED"],
      drainTimeout: "2 seconds",
      databaseIsAway: Effect.succeed(false),
      part
    }),
    health.watch
  ], { concurrency: "unbounded" }).pipe(
    Effect.provide(
      Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ annotations, message }) => {
          const text = [message].flat().join(" ")
          lines.push(text)
          if (/wait/.test(text)) waits.push(text)
          fields.push(Object.fromEntries(annotations))
        })
      )
    ),
    Effect.forkScoped
  )
  const shown = Effect.map(health.current(), ({ dependencies }) => dependencies["inventory-consumer"]!)
  const through = Effect.gen(function*() {
    const [committed, ends] = yield* Effect.all([topics.committed(group, inventory), topics.ends(inventory)])
    for (const { high, partition } of ends) {
      if (high !== "0") assert.strictEqual(committed.get(partition), Number(high), `partition ${partition}`)
    }
  }).pipe(eventually("40 seconds", "50 millis"))
  return { inventory, topics, group, consumer, lines, waits, fields, shown, through } as const
})

/** The letters of a topic by the offsets of their records, once this number has arrived. */
const letters = Effect.fnUntraced(function*(topics: Topics.Topics, dlq: string, count: number) {
  const read = yield* topics.follow(dlq)
  yield* Effect.sync(() => assert.isAtLeast(read.length, count)).pipe(eventually("20 seconds", "50 millis"))
  assert.lengthOf(read, count)
  return new Map(read.map((letter) => [String(letter.headers["dlq-offset"]), letter]))
})

const header = (letter: Read | undefined, name: string) => letter?.headers[name]?.toString()

const compressed = (topic: string, ...messages: ReadonlyArray<Message>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const producer = new Kafka({ brokers: [inject("kafkaBrokers")] }).producer()
      await producer.connect()
      return producer
    }),
    (producer) =>
      Effect.promise(() =>
        producer.send({
          topic,
          compression: CompressionTypes.GZIP,
          messages: messages.map((message) => ({ ...message, partition: 0 }))
        })
      ),
    (producer) => Effect.promise(() => producer.disconnect())
  )

const counted = (name: string, tag: string) =>
  Effect.map(
    Metric.snapshot,
    (pairs) =>
      pairs.reduce((sum, { metricKey, metricState }) =>
        metricKey.name === name && metricKey.tags.some(({ value }) => value === tag)
          ? sum + Number((metricState as unknown as { readonly count: number }).count)
          : sum, 0)
  )

layer(Layer.provideMerge(services, PgTest.layer), { timeout: "60 seconds", excludeTestServices: true })(
  "InventoryConsumer",
  (it) => {
    it.scoped("1,000 malformed records with 8 KB of headers each, then a good one", () =>
      Effect.gen(function*() {
        const dlq = yield* KafkaTest.freshTopic()
        const { inventory, through, topics } = yield* make(dlq)
        const text = "x".repeat(8_000)
        // one compressed batch, and all letters for one partition of the dead-letter topic
        const record = { key: "k", value: "no event", headers: { text } }
        yield* compressed(inventory, ...Array.from({ length: 1_000 }, () => ({ ...record })))
        yield* topics.writeAll(inventory, 0, [{ value: Topics.reserved(101) }])
        yield* through
        const found = yield* letters(topics, dlq, 1_000)
        assert.strictEqual(header(found.get("999"), "text"), text)
        assert.isUndefined(header(found.get("999"), "dlq-cut"))
      }), 120_000)

    it.scoped(
      "a refused dead letter is cut step by step, with headers that say so; others are unchanged",
      () =>
        Effect.gen(function*() {
          const dlq = yield* KafkaTest.freshTopic({ "max.message.bytes": "20000" })
          const { inventory, lines, through, topics, waits } = yield* make(dlq)
          const large = Buffer.alloc(3_000_000, "large ")
          const medium = Buffer.alloc(30_000, "medium ")
          yield* compressed(inventory, { key: "k", value: large, headers: { a: "1" } })
          const records: ReadonlyArray<Message> = [
            { key: "1", value: "small", headers: { a: ["1", "2"], "": "", constructor: "c" } },
            { value: medium },
            { key: "3", value: "short", headers: { [`n${"x".repeat(300_000)}`]: "1", a: ["2", "3"] } },
            { key: Buffer.alloc(100_000, "k"), value: "short" },
            { key: "5", value: null, headers: { a: "x".repeat(30_000) } },
            { value: Topics.reserved(201) }
          ]
          for (const record of records) yield* topics.writeAll(inventory, 0, [record])
          yield* topics.writeAll(inventory, 0, Array.from({ length: 50 }, (_, i) => ({ value: `no event ${i}` })))
          yield* through
          const found = yield* letters(topics, dlq, 56)
          for (const [offset, letter] of found) {
            assert.strictEqual(header(letter, "dlq-topic"), inventory)
            assert.strictEqual(header(letter, "dlq-partition"), "0")
            assert.strictEqual(header(letter, "dlq-offset"), offset)
            assert.isString(header(letter, "dlq-reason"))
          }
          const [first, small, half, names, key, empty] = ["0", "1", "2", "3", "4", "5"].map((offset) =>
            found.get(offset)
          )
          // a value of 3 MB that was sent compressed
          assert.strictEqual(header(first, "dlq-cut"), "value")
          assert.strictEqual(header(first, "dlq-refusal"), "MESSAGE_TOO_LARGE")
          assert.strictEqual(header(first, "dlq-value-bytes"), "3000000")
          assert.strictEqual(header(first, "dlq-value-sha256"), sha256(large))
          assert.deepStrictEqual(first?.value, large.subarray(0, 1_024))
          assert.strictEqual(first?.key?.toString(), "k")
          assert.strictEqual(header(first, "a"), "1")
          // small enough: unchanged
          assert.strictEqual(small?.value?.toString(), "small")
          assert.deepStrictEqual([small?.headers["a"]].flat().map(String), ["1", "2"])
          assert.strictEqual(header(small, ""), "")
          assert.isUndefined(header(small, "dlq-cut"))
          assert.strictEqual(header(half, "dlq-value-sha256"), sha256(medium))
          assert.deepStrictEqual(half?.value, medium.subarray(0, 1_024))
          // a header name that alone is too large
          assert.strictEqual(header(names, "dlq-cut"), "headers")
          assert.strictEqual(header(names, "dlq-headers"), "3")
          assert.strictEqual(names?.value?.toString(), "short")
          assert.isUndefined(header(names, "a"))
          // a key that alone is too large
          assert.strictEqual(header(key, "dlq-cut"), "value,key")
          assert.strictEqual(header(key, "dlq-key"), "synthetic")
          assert.strictEqual(header(key, "dlq-key-bytes"), "100000")
          assert.strictEqual(key?.key?.toString(), `${inventory}/0@4`)
          assert.strictEqual(header(empty, "dlq-cut"), "headers")
          assert.isNull(empty?.value)
          assert.strictEqual(found.get("56")?.value?.toString(), "no event 49")
          assert.deepStrictEqual([waits, lines.filter((line) => /wait/.test(line))], [[], []])
        }),
      120_000
    )

    it.scoped(
      "a compacted dead-letter topic: records without a key get one, also after others were accepted",
      () =>
        Effect.gen(function*() {
          const dlq = yield* KafkaTest.freshTopic({ "cleanup.policy": "compact" })
          const { inventory, through, topics } = yield* make(dlq)
          yield* topics.writeAll(inventory, 0, [
            { key: "a", value: "no event" },
            { value: "no event", headers: { x: "y" } },
            { key: "b", value: "no event" },
            { value: "no event" },
            { value: Topics.reserved(301) }
          ])
          yield* through
          const found = yield* letters(topics, dlq, 4)
          assert.deepStrictEqual(["0", "1", "2", "3"].map((offset) => String(found.get(offset)?.key)), [
            "a",
            `${inventory}/0@1`,
            "b",
            `${inventory}/0@3`
          ])
          assert.deepStrictEqual(["0", "1"].map((offset) => header(found.get(offset), "dlq-key")), [
            undefined,
            "synthetic"
          ])
          assert.strictEqual(header(found.get("1"), "x"), "y")
          assert.isUndefined(header(found.get("1"), "dlq-cut"))
        }),
      120_000
    )

    it.scoped(
      "a dead letter that is sent back gets dlq headers of its new position only",
      () =>
        Effect.gen(function*() {
          const dlq = yield* KafkaTest.freshTopic()
          const { inventory, through, topics } = yield* make(dlq)
          yield* topics.writeAll(inventory, 0, [{
            value: "no event",
            headers: {
              "dlq-reason": ["nonsense", "more"],
              "dlq-topic": "elsewhere",
              "dlq-partition": "7",
              "dlq-offset": "999",
              "dlq-cut": "value",
              "dlq-value-sha256": "00",
              "dlq-note": "of an operator"
            }
          }])
          yield* through
          const letter = (yield* letters(topics, dlq, 1)).get("0")
          assert.deepStrictEqual(
            Object.fromEntries(Object.entries(letter?.headers ?? {}).map(([name, value]) => [name, String(value)])),
            {
              "dlq-reason": "value is not JSON",
              "dlq-topic": inventory,
              "dlq-partition": "0",
              "dlq-offset": "0",
              "dlq-note": "of an operator"
            }
          )
        }),
      120_000
    )

    it.scoped(
      "no dead-letter topic: the batch waits and reports it, and its other steps run once",
      () =>
        Effect.gen(function*() {
          const dlq = `dlq-${randomUUID()}`
          const { fields, inventory, shown, through, topics, waits } = yield* make(dlq)
          const sql = yield* SqlClient.SqlClient
          const paid = (orderId: number) =>
            Effect.tap(sql`SELECT FROM payment WHERE order_id = ${orderId}`, (rows) => assert.lengthOf(rows, 1)).pipe(
              eventually("20 seconds")
            )
          const before = yield* counted("payments_inventory_records_total", "repeated")
          yield* topics.writeAll(inventory, 0, [{ value: Topics.reserved(401) }, { value: "no event" }])
          yield* Effect.sync(() => assert.isNotEmpty(waits)).pipe(eventually("10 seconds"))
          assert.match(
            waits[0]!,
            /^waiting for the dead-letter topic: dead letters cannot be written to topic .*does not exist/
          )
          assert.include(yield* shown, { ok: false, waiting_for: "dead_letter_topic" })
          yield* paid(401)
          // other partitions go on
          yield* topics.writeAll(inventory, 1, [{ value: Topics.reserved(402) }])
          yield* paid(402)
          yield* topics.create(dlq)
          yield* through
          yield* Effect.sync(() => assert.match(waits.at(-1)!, /^no longer waiting for the dead-letter topic/)).pipe(
            eventually()
          )
          assert.isTrue((yield* shown).ok)
          // where it is, and why: nothing of its content
          const logged = Effect.sync(() => fields.find((line) => line["dead_letter_topic"] === dlq))
          const letter = yield* Effect.tap(logged, (found) => assert.isDefined(found)).pipe(eventually("10 seconds"))
          assert.deepInclude(letter, {
            count: 1,
            examples: [{ partition: 0, offset: "1", reason: "value is not JSON" }]
          })
          assert.strictEqual((yield* letters(topics, dlq, 1)).size, 1)
          assert.strictEqual(yield* counted("payments_inventory_records_total", "repeated"), before)
          assert.lengthOf(waits, 2)
        }),
      120_000
    )

    it.scoped(
      "a database that neither answers nor fails is reported within ten seconds, until it answers",
      () =>
        Effect.gen(function*() {
          const dlq = yield* KafkaTest.freshTopic()
          const { inventory, shown, through, topics, waits } = yield* make(dlq)
          const sql = yield* SqlClient.SqlClient
          const [held, release] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
          const rival = yield* sql`LOCK TABLE payment IN ACCESS EXCLUSIVE MODE`.pipe(
            Effect.zipRight(Deferred.succeed(held, undefined)),
            Effect.zipRight(Deferred.await(release)),
            sql.withTransaction,
            Effect.fork
          )
          yield* Deferred.await(held)
          yield* topics.writeAll(inventory, 0, [{ value: Topics.reserved(501) }])
          yield* Effect.gen(function*() {
            const { reason, waiting_for } = yield* shown
            assert.strictEqual(waiting_for, "postgres")
            assert.match(reason!, /^test-.*\/0: no answer for \ds$/)
            assert.lengthOf(waits, 1)
          }).pipe(eventually("10 seconds"))
          yield* Deferred.succeed(release, undefined)
          yield* Fiber.join(rival)
          yield* through
          yield* Effect.sync(() => assert.match(waits.at(-1)!, /^no longer waiting for postgres, after /)).pipe(
            eventually()
          )
          assert.lengthOf(waits, 2)
        }),
      120_000
    )
  }
)
