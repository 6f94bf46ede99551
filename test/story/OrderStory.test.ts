import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import type { Sources } from "../../src/audit/Sources.js"
import { DeadLetterBox } from "../../src/repair/DeadLetterBox.js"
import { Operations } from "../../src/repair/Operations.js"
import * as Conclusion from "../../src/story/Conclusion.js"
import * as OrderStory from "../../src/story/OrderStory.js"
import * as Client from "../audit/Client.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Topics from "../harness/Topics.js"

class Options extends Context.Tag("test/Options")<Options, Sources>() {}

const TestLayer = Layer.unwrapScoped(Effect.gen(function*() {
  const fresh = KafkaTest.freshTopic()
  const [inventoryTopic, dlqTopic, paymentTopic] = yield* Effect.all([fresh, fresh, fresh], { concurrency: 3 })
  const options: Sources = {
    kafka: KafkaTest.kafka(),
    groupId: `test-${randomUUID()}`,
    inventoryTopic,
    dlqTopic,
    paymentTopic,
    acceptStatuses: ["COMPLETED"],
    retention: Duration.days(7)
  }
  return Layer.mergeAll(DeadLetterBox.Default(options), Operations.Default, Layer.succeed(Options, options)).pipe(
    Layer.provideMerge(PgTest.layer)
  )
}))

const key = (order: number, n = 0) => `00000000-0000-4000-8000-${String(order * 10 + n).padStart(12, "0")}`
const body = (order: number, status: string, n: number) => Topics.reserved(order, key(order, n), status)

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("the story of an order", (it) => {
  it.scoped("is found in the tables and on the topics: complete, repeated, dead, unread, lettered, lost", () =>
    Effect.gen(function*() {
      const options = yield* Options
      const sql = yield* SqlClient.SqlClient
      const { dlqTopic, groupId, inventoryTopic, paymentTopic } = options
      const topics = yield* Topics.make(inject("kafkaBrokers"))
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
      const at = yield* topics.writeAll(inventoryTopic, 2, [
        { value: Topics.reserved(11, key(11)), headers: { traceparent } },
        { value: Topics.reserved(11, key(11)) },
        { value: Topics.reserved(11, key(11, 9)) },
        { value: Topics.reserved(12, key(12)) },
        { value: "{\"idempotent_key\":\"no\",\"order_id\":14,\"status\":\"COMPLETED\"}" },
        { value: Topics.reserved(15, key(15)) },
        { value: Topics.reserved(16, key(11)) },
        { value: Topics.reserved(17, key(17), "FAILED") },
        { value: Topics.reserved(18, key(18)) },
        { value: Topics.reserved(13, key(13)) }
      ])
      assert.strictEqual(at, 0)
      yield* Client.commit(inject("kafkaBrokers"), groupId, inventoryTopic, 2, 8)
      yield* topics.write(dlqTopic, {
        value: "{\"idempotent_key\":\"no\",\"order_id\":14,\"status\":\"COMPLETED\"}",
        headers: {
          "dlq-reason": "idempotent_key is not a uuid",
          "dlq-topic": inventoryTopic,
          "dlq-partition": "2",
          "dlq-offset": "4"
        }
      })
      yield* sql`
        INSERT INTO payment (order_id, status, inventory_key, updated_at)
        VALUES (11, 'COMPLETED', ${key(11)}, clock_timestamp() + interval '1 ms'), (12, 'COMPLETED', ${
        key(12)
      }, clock_timestamp())
      `
      yield* sql`
        INSERT INTO event (topic, order_id, payload, status, attempts, last_error, done_at, traceparent) VALUES
          (${paymentTopic}, 11, ${body(11, "CREATED", 1)}, 'DONE', 0, NULL, clock_timestamp(), ${traceparent}),
          (${paymentTopic}, 11, ${body(11, "COMPLETED", 2)}, 'DONE', 0, NULL, clock_timestamp(), ${traceparent}),
          (${paymentTopic}, 12, ${body(12, "CREATED", 1)}, 'DEAD', 10, 'MESSAGE_TOO_LARGE', NULL, ${traceparent}),
          (${paymentTopic}, 12, ${body(12, "COMPLETED", 2)}, 'WAIT', 0, NULL, NULL, ${traceparent})
      `
      const written = yield* topics.write(
        paymentTopic,
        { key: "11", value: body(11, "CREATED", 1) },
        { key: "11", value: body(11, "COMPLETED", 2) },
        { key: "11", value: body(11, "COMPLETED", 2) }
      )
      const { tell } = yield* OrderStory.make(options)
      const [complete, dead, unread, lettered, lost, taken, ignored, ahead, unknown] = yield* Effect.forEach(
        [11n, 12n, 13n, 14n, 15n, 16n, 17n, 18n, 19n],
        (order) => tell(order),
        { concurrency: 3 }
      )
      const stateOf = (story: typeof complete) => Conclusion.conclude(story!).state
      assert.deepStrictEqual(
        [complete, dead, unread, lettered, lost, taken, ignored, ahead, unknown].map(stateOf),
        ["complete", "event-dead", "unread", "dead-letter", "lost-record", "key-taken", "ignored", "unread", "unknown"]
      )
      assert.deepStrictEqual(
        complete!.records.map(({ decision, offset, partition }) => [partition, offset, decision]),
        [
          [2, "0", "created the payment"],
          [2, "1", "repeat: the payment has this idempotent_key"],
          [2, "2", "no second payment: the order has one, with another idempotent_key"]
        ]
      )
      assert.deepStrictEqual(
        complete!.events.map((event) => Conclusion.recordsOf(complete!, event).map(({ offset }) => offset)),
        [[written[0]!.offset], [written[1]!.offset, written[2]!.offset]]
      )
      assert.deepStrictEqual(dead!.events.map(({ attempts, last_error, state }) => [state, attempts, last_error]), [
        ["dead", 10, "MESSAGE_TOO_LARGE"],
        ["behind", 0, null]
      ])
      assert.strictEqual(unread!.records[0]!.before, 2)
      assert.strictEqual(lettered!.letters[0]!.letter.original, `${inventoryTopic}/2@4`)

      // a topic that is not there is named, and the rest is told
      const elsewhere = yield* OrderStory.make({ ...options, paymentTopic: "not-there" })
      const partly = yield* elsewhere.tell(11n)
      assert.match(partly.searched.payment.problem ?? "", /topic not-there does not exist/)
      assert.strictEqual(Conclusion.conclude(partly).state, "untold")
    }))

  it.scoped("the events of an old order are found by the time of their transition, without a read of the whole table", () =>
    Effect.gen(function*() {
      const options = yield* Options
      const sql = yield* SqlClient.SqlClient
      yield* sql`TRUNCATE payment, event`
      // 60,000 events of other orders, a second apart; order 7 is far from both ends
      yield* sql`
        INSERT INTO event (topic, order_id, payload, status, created_at, done_at)
        SELECT 'payment', n + 1000, '{"status":"CREATED"}', 'DONE', now() - make_interval(secs => 60000 - n), now()
        FROM generate_series(1, 60000) AS n
      `
      yield* sql`UPDATE event SET order_id = 7, payload = ${body(7, "CREATED", 1)} WHERE order_id = 31005`
      yield* sql`
        INSERT INTO payment (order_id, status, created_at) SELECT 7, 'CREATED', created_at FROM event WHERE order_id = 7
      `
      // with no retention the whole table is never read
      const { tell } = yield* OrderStory.make({ ...options, retention: Duration.zero })
      assert.deepStrictEqual((yield* tell(7n)).events.map(({ says }) => says), ["CREATED"])
    }))
})
