import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Kafka, logLevel } from "kafkajs"
import { randomUUID } from "node:crypto"
import { inject } from "vitest"
import { LostRecords } from "../../src/repair/LostRecords.js"
import { LostResults } from "../../src/repair/LostResults.js"
import * as Client from "../audit/Client.js"
import { eventually } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Topics from "../harness/Topics.js"

const TestLayer = Layer.merge(LostResults.Default, LostRecords.Default).pipe(Layer.provideMerge(PgTest.layer))

const by = { run: randomUUID(), operator: "night shift", reason: "a failover" }
const pacing = { rate: 100_000, onStep: () => Effect.void }
const body = (order: number, status: string) =>
  `{"idempotent_key":"${randomUUID()}","order_id":${order},"status":"${status}"}`

/** A member of the group, for the life of the scope, which commits nothing. */
const joined = (groupId: string, topic: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const kafka = new Kafka({ clientId: "stranger", brokers: [inject("kafkaBrokers")], logLevel: logLevel.NOTHING })
      const consumer = kafka.consumer({ groupId })
      const join = new Promise<void>((resolve) => void consumer.on(consumer.events.GROUP_JOIN, () => resolve()))
      await consumer.connect()
      await consumer.subscribe({ topics: [topic] })
      await consumer.run({ autoCommit: false, eachBatch: () => Promise.resolve() })
      await join
      return consumer
    }),
    (consumer) => Effect.promise(() => consumer.disconnect())
  )

layer(TestLayer, { timeout: "60 seconds", excludeTestServices: true })("what a database has lost", (it) => {
  it.scoped("results on the topic hold, waiting events that were sent are DONE, and offsets go back to the first loss", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const results = yield* LostResults
      const records = yield* LostRecords
      const topics = yield* Topics.make(inject("kafkaBrokers"))
      const [payment, inventory, group] = [yield* KafkaTest.freshTopic(), yield* KafkaTest.freshTopic(), randomUUID()]
      const tell = (order: number, status: string) => {
        const value = body(order, status)
        return Effect.as(topics.write(payment, { key: String(order), value }), value)
      }
      // 1 is gone, 2 is CREATED again and waits, 3 contradicts, 4 is whole, 5 was only created
      const first = [yield* tell(1, "CREATED"), yield* tell(1, "COMPLETED")]
      const second = [yield* tell(2, "CREATED"), yield* tell(2, "FAILED")]
      yield* tell(3, "COMPLETED")
      yield* tell(4, "COMPLETED")
      const fifth = yield* tell(5, "CREATED")
      yield* sql`INSERT INTO payment (order_id, status) VALUES (2, 'CREATED'), (3, 'FAILED'), (4, 'COMPLETED')`
      yield* sql`INSERT INTO event (topic, order_id, payload) VALUES (${payment}, 2, ${second[0]!})`

      for (const order of [4, 1, 6, 7]) {
        yield* topics.writeAll(inventory, 2, [{ value: Topics.reserved(order) }])
      }
      yield* Client.commit(inject("kafkaBrokers"), group, inventory, 2, 3)
      const options = { kafka: KafkaTest.kafka(), group, topic: inventory, accept: ["COMPLETED"], since: undefined }

      const plan = yield* results.plan({ kafka: KafkaTest.kafka(), topic: payment, since: undefined })
      assert.sameMembers(plan.orders.map(({ orderId, status }) => `${orderId} ${status}`), [
        "1 COMPLETED",
        "2 FAILED",
        "5 CREATED"
      ])
      assert.lengthOf(plan.sent, 1)
      assert.deepStrictEqual(plan.leftOut.map(({ examples }) => examples), [["order 3"]])
      const rewinds = yield* records.plan(options, new Set(plan.orders.map(({ orderId }) => orderId)))
      // order 7 is not read yet
      assert.deepStrictEqual(rewinds, [{ partition: 2, from: 3, to: 2, lost: 1 }])

      const { changed } = yield* results.recover(plan, payment, by, pacing)
      assert.strictEqual(changed, 3)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* joined(group, inventory)
        const error = yield* Effect.flip(records.unused(options))
        assert.match(error.message, /has 1 members: stop every process/)
      }))
      yield* eventually()(records.unused(options))
      yield* records.rewind(options, rewinds, by)
      assert.strictEqual((yield* topics.committed(group, inventory)).get(2), 2)
      const rows = yield* sql<{ readonly order_id: string; readonly status: string }>`
        SELECT order_id, status FROM payment ORDER BY order_id
      `
      assert.deepStrictEqual(rows.map(({ order_id, status }) => `${order_id} ${status}`), [
        "1 COMPLETED",
        "2 FAILED",
        "3 FAILED",
        "4 COMPLETED",
        "5 CREATED"
      ])
      const events = yield* sql<{ readonly payload: string; readonly status: string }>`
        SELECT payload, status FROM event ORDER BY order_id, id
      `
      assert.deepStrictEqual(events.map(({ payload }) => payload), [...first, ...second, fifth])
      assert.deepStrictEqual([...new Set(events.map(({ status }) => status))], ["DONE"])
      const noted = yield* sql`SELECT FROM operation WHERE action = 'recover'`
      assert.lengthOf(noted, 4)

      // it repeats without harm
      const again = yield* results.plan({ kafka: KafkaTest.kafka(), topic: payment, since: undefined })
      assert.deepStrictEqual([again.orders, again.sent], [[], []])
      assert.strictEqual((yield* results.recover(plan, payment, by, pacing)).changed, 0)
    }))
})
