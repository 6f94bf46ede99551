import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Calls from "../harness/Calls.js"
import { eventually } from "../harness/Eventually.js"
import * as Murmur2 from "../harness/Murmur2.js"
import * as Program from "../harness/Program.js"
import { nullHeader } from "../harness/StockKafkajs.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

const uuid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

const setup = Effect.gen(function*() {
  const world = yield* World.make()
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const program = yield* Program.serve([], world.env)
  const published = yield* topics.follow(world.payment)
  const deadLetters = yield* topics.follow(world.dlq)
  const tables = yield* Tables.make(world.databaseUrl)
  const calls = yield* Calls.make(program.grpc)
  yield* program.untilReady

  /** The records of an order, once this number has arrived. */
  const recordsOf = (orderId: bigint | number, count: number) =>
    Effect.sync(() => published.filter(({ key }) => key?.toString() === String(orderId))).pipe(
      Effect.tap((records) => assert.lengthOf(records, count)),
      eventually()
    )
  /** Ends when the group has committed past all these records. */
  const consumed = (places: ReadonlyArray<Topics.Written>) =>
    Effect.gen(function*() {
      const committed = yield* topics.committed(world.group, world.inventory)
      for (const { offset, partition } of places) assert.isAbove(committed.get(partition)!, Number(offset))
    }).pipe(eventually())

  return { world, topics, program, tables, calls, deadLetters, recordsOf, consumed } as const
})

class Saga extends Context.Tag("test/Saga")<Saga, Effect.Effect.Success<typeof setup>>() {}

layer(Layer.scoped(Saga, setup), { timeout: "120 seconds", excludeTestServices: true })(
  "the saga on the wire",
  (it) => {
    it.effect("reserved: payment CREATED, event WAIT then DONE, the exact record; paid: COMPLETED, the second record", () =>
      Effect.gen(function*() {
        const { calls, recordsOf, tables, topics, world } = yield* Saga
        const orderId = 4711
        // the state of the event table after each transaction
        yield* tables.query("CREATE TABLE history (n serial, event bigint, status text)")
        yield* tables.query(`
        CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF TG_OP = 'INSERT' OR OLD.status <> NEW.status THEN
            INSERT INTO history (event, status) VALUES (NEW.id, NEW.status);
          END IF;
          RETURN NEW;
        END $$
      `)
        yield* tables.query(
          "CREATE TRIGGER history AFTER INSERT OR UPDATE ON event FOR EACH ROW EXECUTE FUNCTION remember()"
        )

        yield* topics.write(world.inventory, { value: Topics.reserved(orderId) })
        const [created] = yield* recordsOf(orderId, 1)
        assert.deepStrictEqual(yield* tables.payments(orderId), [{ order_id: "4711", status: "CREATED" }])

        const paid = yield* calls.pay(orderId)
        assert.deepStrictEqual([paid.code, paid.response], ["OK", {}])
        assert.deepStrictEqual(yield* tables.payments(orderId), [{ order_id: "4711", status: "COMPLETED" }])
        const [first, completed] = yield* recordsOf(orderId, 2)
        assert.strictEqual(first, created)

        const events = yield* tables.events(orderId).pipe(
          Effect.tap((rows) => assert.deepStrictEqual(rows.map(({ status }) => status), ["DONE", "DONE"])),
          eventually()
        )
        const records = [created!, completed!]
        records.forEach((record, i) => {
          const status = ["CREATED", "COMPLETED"][i]
          const body = record.value!.toString("latin1")
          assert.match(body, new RegExp(`^\\{"idempotent_key":"${uuid}","order_id":4711,"status":"${status}"\\}$`))
          assert.strictEqual(body, events[i]!.payload)
          assert.strictEqual(record.key!.toString("latin1"), "4711")
          assert.sameMembers(Object.keys(record.headers), ["event-id", "content-type", "traceparent"])
          assert.strictEqual(String(record.headers["event-id"]), events[i]!.id)
          assert.strictEqual(String(record.headers["content-type"]), "application/json")
          assert.match(String(record.headers["traceparent"]), /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/)
          assert.strictEqual(String(record.headers["traceparent"]), events[i]!.traceparent)
          assert.strictEqual(record.partition, Murmur2.partitionOf(record.key!, 4))
        })
        assert.isAbove(Number(completed!.offset), Number(created!.offset))
        assert.notStrictEqual(Topics.body(created!).idempotent_key, Topics.body(completed!).idempotent_key)
        const history = yield* tables.query<{ readonly event: string; readonly status: string }>(
          "SELECT event, status FROM history WHERE event = ANY($1) ORDER BY n",
          [events.map(({ id }) => id)]
        )
        assert.deepStrictEqual(
          history.map(({ event, status }) => [event, status]),
          events.flatMap(({ id }) => [[id, "WAIT"], [id, "DONE"]])
        )
      }))

    it.effect("a record goes to the partition that the Java client gives its key", () =>
      Effect.gen(function*() {
        const { recordsOf, topics, world } = yield* Saga
        for (const [text, partition] of Murmur2.known) {
          assert.strictEqual(Murmur2.partitionOf(Buffer.from(text), 1_000), partition)
        }
        const orders = Array.from({ length: 20 }, (_, i) => 5_000_000 + 7 ** (i % 5) + i)
        yield* topics.writeAll(world.inventory, 0, orders.map((orderId) => ({ value: Topics.reserved(orderId) })))
        const used = new Set<number>()
        for (const orderId of orders) {
          const [record] = yield* recordsOf(orderId, 1)
          assert.strictEqual(record!.partition, Murmur2.partitionOf(Buffer.from(String(orderId)), 4))
          used.add(record!.partition)
        }
        assert.isAbove(used.size, 1)
      }))

    it.effect("refused: FAILED for good; the opposite call is refused, the same call succeeds without a second event", () =>
      Effect.gen(function*() {
        const { calls, recordsOf, tables, topics, world } = yield* Saga
        yield* topics.write(world.inventory, { value: Topics.reserved(4712) })
        yield* recordsOf(4712, 1)
        assert.strictEqual((yield* calls.refuse(4712)).code, "OK")
        const records = yield* recordsOf(4712, 2)
        assert.deepStrictEqual(records.map((record) => Topics.body(record).status), ["CREATED", "FAILED"])
        assert.strictEqual((yield* calls.refuse(4712)).code, "OK")
        assert.strictEqual((yield* calls.pay(4712)).code, "FAILED_PRECONDITION")
        assert.deepStrictEqual(yield* tables.payments(4712), [{ order_id: "4712", status: "FAILED" }])
        assert.lengthOf(yield* tables.events(4712), 2)

        assert.strictEqual((yield* calls.pay(4713)).code, "NOT_FOUND")
        assert.strictEqual((yield* calls.pay(0)).code, "INVALID_ARGUMENT")
        assert.deepStrictEqual((yield* calls.call("GetPing", {})).response, { pong: true })
      }))

    it.effect("an order_id beyond 2^53 is the same everywhere", () =>
      Effect.gen(function*() {
        const { calls, recordsOf, tables, topics, world } = yield* Saga
        for (const orderId of [9007199254740993n, 9223372036854775807n]) {
          yield* topics.write(world.inventory, { value: Topics.reserved(orderId) })
          yield* recordsOf(orderId, 1)
          assert.strictEqual((yield* calls.pay(orderId)).code, "OK")
          for (const { key, value } of yield* recordsOf(orderId, 2)) {
            assert.strictEqual(key!.toString(), String(orderId))
            assert.include(value!.toString(), `"order_id":${orderId},`)
          }
          assert.deepStrictEqual(yield* tables.payments(orderId), [{ order_id: String(orderId), status: "COMPLETED" }])
          const { response } = yield* calls.call("GetPayment", { order_id: String(orderId) })
          assert.deepStrictEqual([response.order_id, response.status], [String(orderId), "PAYMENT_STATUS_COMPLETED"])
        }
        assert.isEmpty(yield* tables.payments(9007199254740992n))
      }))

    it.effect("the traceparent of the inventory record passes to the event; an invalid one is replaced", () =>
      Effect.gen(function*() {
        const { recordsOf, tables, topics, world } = yield* Saga
        yield* topics.write(
          world.inventory,
          { value: Topics.reserved(4721), headers: { traceparent } },
          { value: Topics.reserved(4722), headers: { traceparent: "00-nonsense" } },
          { value: Topics.reserved(4723), headers: { traceparent: nullHeader } }
        )
        const [carried] = yield* recordsOf(4721, 1)
        assert.strictEqual(String(carried!.headers["traceparent"]), traceparent)
        assert.strictEqual((yield* tables.events(4721))[0]!.traceparent, traceparent)
        for (const orderId of [4722, 4723]) {
          const [replaced] = yield* recordsOf(orderId, 1)
          assert.match(String(replaced!.headers["traceparent"]), /^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$/)
        }
      }))

    it.effect("a status that is not accepted only adds to a counter, and its offset is committed", () =>
      Effect.gen(function*() {
        const { consumed, deadLetters, program, tables, topics, world } = yield* Saga
        const statuses = ["FAILED", "CREATED", "completed", "COMPLETED ", "x".repeat(1_000), ""]
        const before = deadLetters.length
        const places = yield* topics.write(
          world.inventory,
          ...statuses.map((status, i) => ({ value: Topics.reserved(4731 + i, randomUUID(), status) }))
        )
        yield* consumed(places)
        assert.strictEqual(yield* tables.count("payment WHERE order_id BETWEEN 4731 AND 4739"), 0)
        assert.strictEqual(yield* tables.count("event WHERE order_id BETWEEN 4731 AND 4739"), 0)
        assert.lengthOf(deadLetters, before)
        const ignored = (status: string) => program.metric("payments_inventory_ignored_total", `status="${status}"`)
        assert.deepStrictEqual(yield* Effect.all(["FAILED", "CREATED", "other"].map(ignored)), [1, 1, 4])
        const { body } = yield* program.get("/metrics")
        assert.notInclude(body, "xxxx", "a label that comes from a record")
      }))

    it.effect("a record that is no inventory event becomes a dead letter, byte for byte, and blocks no other record", () =>
      Effect.gen(function*() {
        const { consumed, deadLetters, program, recordsOf, topics, world } = yield* Saga
        const key = randomUUID()
        const values: ReadonlyArray<readonly [reason: RegExp, value: Buffer | string | null]> = [
          [/no value/, null],
          [/not JSON/, ""],
          [/not JSON/, "{\"idempotent_key\":"],
          [/not JSON/, Buffer.from([0x7b, 0xff, 0x00, 0x7d])],
          [/not a JSON object/, "[1]"],
          [/not a JSON object/, "null"],
          [/idempotent_key/, "{\"order_id\":1,\"status\":\"COMPLETED\"}"],
          [/idempotent_key/, Topics.reserved(1, "not-a-uuid")],
          [/order_id/, `{"idempotent_key":"${key}","status":"COMPLETED"}`],
          [/order_id/, `{"idempotent_key":"${key}","order_id":"1","status":"COMPLETED"}`],
          [/order_id/, `{"idempotent_key":"${key}","order_id":1.5,"status":"COMPLETED"}`],
          [/order_id/, Topics.reserved(0)],
          [/order_id/, Topics.reserved(-1)],
          [/order_id/, Topics.reserved(9223372036854775808n)],
          [/status/, `{"idempotent_key":"${key}","order_id":1}`],
          [/status/, `{"idempotent_key":"${key}","order_id":1,"status":7}`]
        ]
        const headers = { text: "ä", bytes: Buffer.from([0, 255, 254]), twice: ["1", "2"], empty: "", none: nullHeader }
        const came = {
          text: Buffer.from("ä"),
          bytes: Buffer.from([0, 255, 254]),
          twice: [Buffer.from("1"), Buffer.from("2")],
          empty: Buffer.alloc(0),
          none: null
        }
        const places = yield* topics.write(
          world.inventory,
          ...values.map(([, value], i) => ({
            key: i % 2 === 0 ? Buffer.from([i, 0xff]) : null,
            value,
            headers,
            partition: 2
          }))
        )
        // behind them, on the same partition
        yield* topics.writeAll(world.inventory, 2, [{ value: Topics.reserved(4741) }])
        yield* recordsOf(4741, 1)
        yield* consumed(places)
        const letters = yield* Effect.sync(() =>
          places.map(({ offset }) => deadLetters.filter(({ headers }) => String(headers["dlq-offset"]) === offset))
        ).pipe(
          Effect.tap((letters) => letters.forEach((found) => assert.lengthOf(found, 1))),
          eventually()
        )
        letters.forEach(([letter], i) => {
          const [reason, value] = values[i]!
          assert.deepStrictEqual(letter!.value, value === null ? null : Buffer.from(value))
          assert.deepStrictEqual(letter!.key, i % 2 === 0 ? Buffer.from([i, 0xff]) : null)
          const { "dlq-offset": _, "dlq-partition": partition, "dlq-reason": why, "dlq-topic": topic, ...rest } =
            letter!.headers
          assert.deepStrictEqual(rest, came as never)
          assert.match(String(why), reason)
          assert.deepStrictEqual([String(topic), String(partition)], [world.inventory, "2"])
        })
        assert.strictEqual(yield* program.metric("payments_dead_letters_total"), values.length)
      }))

    it.effect("no duplicate creates a second payment, and the metrics count each kind", () =>
      Effect.gen(function*() {
        const { consumed, program, recordsOf, tables, topics, world } = yield* Saga
        const outcome = (name: string) => program.metric("payments_inventory_records_total", `outcome="${name}"`)
        const layer = (name: string) => program.metric("payments_dedupe_hits_total", `layer="${name}"`)
        const counts = Effect.all([
          outcome("repeated"),
          outcome("order_taken"),
          outcome("key_taken"),
          layer("redis"),
          layer("postgres")
        ])
        const before = yield* counts
        const key = randomUUID()
        yield* topics.write(world.inventory, { value: Topics.reserved(4751, key) })
        yield* recordsOf(4751, 1)
        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => new Redis(world.redisUrl)),
          (redis) => Effect.sync(() => redis.disconnect())
        )
        const name = `payments:inventory:${key}`
        yield* Effect.promise(() => redis.pttl(name)).pipe(
          Effect.tap((ttl) => assert.approximately(ttl, 7 * 24 * 3_600_000, 60_000)),
          eventually()
        )
        const write = (...values: ReadonlyArray<string>) =>
          Effect.flatMap(topics.write(world.inventory, ...values.map((value) => ({ value }))), consumed)
        // Redis knows the same record; its key with another order is for PostgreSQL to decide
        yield* write(Topics.reserved(4751, key), Topics.reserved(4752, key))
        // Redis has forgotten it, PostgreSQL recognises it
        yield* Effect.promise(() => redis.del(name))
        yield* write(Topics.reserved(4752, key))
        yield* write(Topics.reserved(4751, key.toUpperCase()))
        // the same order under another key
        yield* write(Topics.reserved(4751))
        // all in one batch
        const [other, third] = [randomUUID(), randomUUID()]
        const first = yield* topics.writeAll(world.inventory, 1, [
          { value: Topics.reserved(4753, other) },
          { value: Topics.reserved(4753, other) },
          { value: Topics.reserved(4753, third) },
          { value: Topics.reserved(4754, other) }
        ])
        yield* consumed([{ partition: 1, offset: String(first + 3) }])

        assert.deepStrictEqual(
          yield* tables.query("SELECT order_id, status FROM payment WHERE order_id BETWEEN 4751 AND 4759 ORDER BY 1"),
          [{ order_id: "4751", status: "CREATED" }, { order_id: "4753", status: "CREATED" }]
        )
        assert.strictEqual(yield* tables.count("event WHERE order_id BETWEEN 4751 AND 4759"), 2)
        const now = yield* counts
        assert.deepStrictEqual(now.map((count, i) => count - before[i]!), [3, 2, 3, 1, 7])
      }).pipe(Effect.scoped))

    it.effect("operations: alive, ready with every dependency by name, and no secret", () =>
      Effect.gen(function*() {
        const { program } = yield* Saga
        assert.deepStrictEqual(yield* program.get("/livez"), { status: 200, body: "ok\n" })
        assert.strictEqual((yield* program.get("/readyz")).status, 200)
        const { dependencies, ready } = yield* program.readiness
        assert.isTrue(ready)
        assert.deepStrictEqual(
          Object.entries(dependencies).map(([name, { ok, required }]) => [name, ok, required]),
          [
            ["consumer-lag", true, false],
            ["database-clock", true, false],
            ["grpc-server", true, true],
            ["http-server", true, false],
            ["inventory-consumer", true, true],
            ["inventory-topics", true, true],
            ["migrations", true, true],
            ["outbox-listener", true, false],
            ["outbox-pruner", true, false],
            ["outbox-relay", true, true],
            ["payment-topic", true, true],
            ["postgres", true, true],
            ["redis", true, false]
          ]
        )
        assert.notInclude(program.stderr(), "payments:payments")
        assert.notInclude(program.stderr(), "idempotent_key\\\"")
        assert.strictEqual(yield* program.metric("payments_service_restarts_total"), 0, program.stderr())
      }))

    it.effect("every metric of docs/operations.md exists from the start, with the documented type, labels and help", () =>
      Effect.gen(function*() {
        const { program } = yield* Saga
        const { body } = yield* program.get("/metrics")
        const rows = [
          ...readFileSync("docs/operations.md", "utf8").matchAll(
            /^\| `(payments_\w+)` \| (\w+) \|(.*?)\| (.*) \|$/gm
          )
          // this program has no certificates
        ].filter(([, name]) => name !== "payments_tls_certificate_expiry_timestamp_seconds")
        const shown = (kind: string) =>
          Object.fromEntries(
            [...body.matchAll(new RegExp(`^# ${kind} (payments_\\w+) (.*)$`, "gm"))].map((_) => [_[1]!, _[2]!])
          )
        const [helps, types] = [shown("HELP"), shown("TYPE")]
        assert.sameMembers(rows.map(([, name]) => name!), Object.keys(types))
        for (const [, name, type, labels, meaning] of rows) {
          assert.strictEqual(types[name!], type, name)
          assert.isTrue(
            meaning!.replaceAll("`", "").startsWith(helps[name!]!.replaceAll("`", "")),
            `${name}: ${helps[name!]}`
          )
          const series = [...body.matchAll(new RegExp(`^${name}(?:_bucket|_sum|_count)?(?:\\{(.*)\\})? `, "gm"))]
          const found = new Set(series.flatMap((_) => [...(_[1] ?? "").matchAll(/(\w+)="/g)].map((label) => label[1]!)))
          found.delete("le")
          assert.sameMembers([...found], [...labels!.matchAll(/`(\w+)`/g)].map((_) => _[1]!), name)
          if (type === "counter") assert.match(name!, /_total$/)
        }
      }))

    it.scoped("a new group begins at the earliest record; more dead letters than fit into one request are sent", () =>
      Effect.gen(function*() {
        const world = yield* World.make()
        const topics = yield* Topics.make(world.kafkaBrokers)
        yield* topics.create(world.inventory, world.dlq)
        const [key, value] = ["one key for all", "x".repeat(1_000)]
        for (const _ of [1, 2]) {
          yield* topics.writeAll(world.inventory, 3, Array.from({ length: 500 }, () => ({ key, value })))
        }
        yield* topics.writeAll(world.inventory, 3, [{ value: Topics.reserved(4761) }])
        const program = yield* Program.serve(["consumer"], world.env)
        yield* program.untilReady
        const tables = yield* Tables.make(world.databaseUrl)
        yield* tables.payments(4761).pipe(Effect.tap((rows) => assert.lengthOf(rows, 1)), eventually())
        const letters = (yield* topics.ends(world.dlq)).reduce((sum, { high }) => sum + Number(high), 0)
        assert.strictEqual(letters, 1_000)
      }))
  }
)
