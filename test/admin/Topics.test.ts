import { SqlClient } from "@effect/sql"
import { assert, it, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { inject } from "vitest"
import * as Window from "../../src/admin/topics/Window.js"
import * as KafkaProducer from "../../src/infra/kafka/KafkaProducer.js"
import { eventually } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Topics from "../harness/Topics.js"
import { services, start } from "./Harness.js"

const change = { "x-payments-console": "1" }
const span = (partition: number, start: number, end: number) => ({ partition, start, end, whole: start === 0 })

it("a search of a topic reads each record once, in both directions, whatever its limits", () => {
  // times that go back now and then, and partitions of different size
  const topic = [0, 1, 2].flatMap((partition) =>
    Array.from({ length: 5 + partition * 7 }, (_, offset) => ({
      partition,
      offset,
      at: (offset * 13 + partition * 5) % 31,
      bytes: 100
    }))
  )
  const spans = [span(0, 0, 5), span(1, 0, 12), span(2, 0, 19)]
  for (const forward of [true, false]) {
    for (
      const [limit, each, bytes, late] of [[3, 3, 1e9, false], [4, 2, 1e9, false], [5, 100, 250, false], [
        2,
        5,
        1e9,
        true
      ]] as const
    ) {
      const seen: Array<string> = []
      let cursor: Window.Cursor | undefined
      let rounds = 0
      do {
        const parts = Window.next(spans, cursor, forward, each).map((one) => new Window.Matches(one, forward, limit))
        for (const [i, part] of parts.entries()) {
          // every second round one partition is not read to its end
          const stop = late && rounds % 2 === 0 && i === 0 ? part.span.end - 1 : part.span.end
          for (const record of topic) {
            if (record.partition === part.span.partition && record.offset >= part.span.start && record.offset < stop) {
              part.add(record)
            }
          }
          part.reached = stop
        }
        const chosen = Window.choose(parts, spans, { forward, limit, bytes })
        assert.isAtMost(chosen.records.length, limit)
        seen.push(...chosen.records.map(({ offset, partition }) => `${partition}@${offset}`))
        cursor = Window.show(chosen.next) === null ? new Map() : Window.parse(Window.show(chosen.next)!)
        assert.strictEqual(chosen.ended === "end", cursor.size === 0)
      } while (cursor.size > 0 && ++rounds < 200)
      assert.sameMembers(
        seen,
        topic.map(({ offset, partition }) => `${partition}@${offset}`),
        `${forward} ${limit} ${each}`
      )
      assert.strictEqual(seen.length, topic.length)
    }
  }
})

layer(services.pipe(Layer.provideMerge(PgTest.layer)), { timeout: "90 seconds", excludeTestServices: true })(
  "the topics of the console",
  (it) => {
    it.scoped("dead letters come newest first, and a list reads no more of each partition than it shows", () =>
      Effect.gen(function*() {
        const dlqTopic = yield* KafkaTest.freshTopic()
        const { ask } = yield* start({ topic: dlqTopic, dlqTopic })
        const topics = yield* Topics.make(inject("kafkaBrokers"))
        yield* topics.write(
          dlqTopic,
          ...[1, 2, 3, 4, 5, 6].map((at) => ({
            value: "x",
            partition: at % 2,
            timestamp: String(Date.now() - 10_000 + at * 1_000),
            headers: { "dlq-reason": at < 3 ? "value is not JSON" : "order_id is missing" }
          }))
        )
        const list = (query: string) => Effect.map(ask(`/api/dead-letters${query}`), ({ json }) => json)
        const places = (json: any) => json.letters.map((one: any) => `${one.partition}@${one.offset}`)
        const two = yield* list("?limit=2")
        assert.deepStrictEqual(places(two), ["0@2", "1@2"])
        assert.deepInclude(two, { count: 6, read: 4, total: 6 })
        const filtered = yield* list("?error=JSON")
        assert.deepStrictEqual(places(filtered), ["0@0", "1@0"])
        assert.deepInclude(filtered, { count: 2, read: 6, total: 6 })
      }))

    it.scoped("a local stack writes a record, shows it as text and bytes, finds it, and follows the topic", () =>
      Effect.gen(function*() {
        const topic = yield* KafkaTest.freshTopic()
        const { ask, follow } = yield* start({ local: true, topic })
        const live = yield* follow("/api/topics/inventory/live", null)
        const filtered = yield* follow("/api/topics/inventory/live?contains=alert&key=a%20key", null)
        for (const { events } of [live, filtered]) {
          yield* eventually()(Effect.sync(() => assert.deepInclude(events()[0], { name: "ready" })))
        }
        const value =
          "{\"idempotent_key\":\"00000000-0000-4000-8000-000000000111\",\"order_id\":9007199254740993,\"status\":\"COMPLETED\"}"
        const write = (body: object) =>
          ask("/api/topics/inventory/records", { bearer: null, body: { reason: "a test", ...body }, headers: change })
        const written = yield* write({ value })
        assert.deepInclude(written.json, { topic, offset: "0" })
        yield* write({ value: "<script>alert(1)</script> no JSON", key: "a key" })
        const operations = (yield* ask("/api/operations?order_id=9007199254740993", { bearer: null })).json.operations
        assert.deepInclude(operations[0], {
          action: "inventory write",
          operator: "local",
          order_id: "9007199254740993"
        })
        assert.include(operations[0].place, `${topic}/${written.json.partition}@0 `)

        const search = (query: string) => ask(`/api/topics/inventory/records?${query}`, { bearer: null })
        const all = yield* search("")
        assert.deepStrictEqual([all.json.records.length, all.json.ended, all.json.next], [2, "end", null])
        const found = yield* search("contains=9007199254740993")
        assert.strictEqual(found.json.records.length, 1)
        assert.deepInclude(found.json.records[0], { topic, offset: "0", key: null, unread: null })
        assert.deepStrictEqual(found.json.records[0].value, {
          bytes: value.length,
          text: value,
          hex: Buffer.from(value).toString("hex"),
          cut: false
        })
        assert.strictEqual(
          (yield* search("key=a%20key")).json.records[0].value.text,
          "<script>alert(1)</script> no JSON"
        )
        assert.deepStrictEqual((yield* search("key=a")).json.records, [])
        const { partition } = written.json
        assert.strictEqual((yield* search(`partition=${partition}&offset=0`)).json.records[0].offset, "0")
        assert.strictEqual((yield* search("partition=77")).status, 404)
        assert.deepStrictEqual((yield* search("from=2100-01-01T00:00:00Z")).json.records, [])
        const topics = (yield* ask("/api/topics", { bearer: null })).json.topics
        assert.strictEqual(topics[0].partitions.length, 4)
        assert.include(topics[2].problem, "topic not-there does not exist")
        assert.strictEqual((yield* ask("/api/topics/dead-letters/records", { bearer: null })).status, 404)

        const texts = ({ events }: typeof live) =>
          events().filter(({ name }) => name === "records")
            .flatMap(({ data }) => data.records.map(({ value }: any) => value.text))
        yield* eventually()(Effect.sync(() => {
          assert.sameMembers(texts(live), [value, "<script>alert(1)</script> no JSON"])
          assert.deepStrictEqual(texts(filtered), ["<script>alert(1)</script> no JSON"])
        }))
      }))

    it.scoped("large and unreadable records are cut and shown as bytes; the story of an order has its records whole", () =>
      Effect.gen(function*() {
        const topic = yield* KafkaTest.freshTopic()
        const sql = yield* SqlClient.SqlClient
        yield* sql`TRUNCATE payment`
        const { ask } = yield* start({ topic })
        const producer = yield* KafkaProducer.make(KafkaTest.kafka())
        const order =
          "{\"idempotent_key\":\"00000000-0000-4000-8000-000000000112\",\"order_id\":112,\"status\":\"COMPLETED\"}"
        yield* producer.send([
          { topic, key: Buffer.from([0, 255]), value: Buffer.from([255, 254, 0]), headers: { "<b>": "\u0007" } },
          { topic, key: null, value: `x${"é".repeat(5_000)}` },
          { topic, key: null, value: null },
          { topic, key: null, value: order }
        ], () => true)
        const { json } = yield* ask("/api/topics/inventory/records")
        const bytes = (n: number) => json.records.find((one: any) => one.value?.bytes === n)
        assert.deepInclude(bytes(3), { key: { bytes: 2, text: null, hex: "00ff", cut: false } })
        assert.deepStrictEqual(bytes(3).headers, [{
          name: "<b>",
          value: { bytes: 1, text: null, hex: "07", cut: false }
        }])
        assert.deepInclude(bytes(10_001).value, { text: `x${"é".repeat(2_047)}`, cut: true })
        assert.isTrue(json.records.some(({ value }: any) => value === null))
        const story = yield* ask("/api/orders/112")
        assert.deepStrictEqual(story.json.raw.map(({ topic, value }: any) => [topic, value.text]), [[topic, order]])
      }))
  }
)
