import { assert, it, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer } from "effect"
import { randomUUID } from "node:crypto"
import * as Ports from "../../src/local/Ports.js"
import * as Calls from "../harness/Calls.js"
import * as Command from "../harness/Command.js"
import { eventually } from "../harness/Eventually.js"
import * as Program from "../harness/Program.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"
import * as Client from "./Client.js"

interface Finding {
  readonly finding: string
  readonly fault: boolean
  readonly order_id: number | null
  readonly topic: string | null
  readonly partition: number | null
  readonly offset: string | null
  readonly event_id: string | null
}

interface Summary {
  readonly clean: boolean
  readonly drained: boolean
  readonly orders: number
  readonly inventory: Record<string, number>
  readonly dead_letters: number
  readonly tables: Record<string, number>
  readonly payment_records: number
  readonly found: Record<string, number>
}

/** A world in which the services reserved this number of orders and settled two thirds of them. */
const lived = Effect.fnUntraced(function*(orders: number) {
  const world = yield* World.make()
  const topics = yield* Topics.make(world.kafkaBrokers)
  yield* topics.create(world.inventory, world.dlq, world.payment)
  const tables = yield* Tables.make(world.databaseUrl)
  const audit = (...args: ReadonlyArray<string>) => Command.run(["audit", ...args], world.env)
  const documents = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
    const { code, stderr, stdout } = yield* audit("--json", ...args)
    const lines = stdout.trimEnd().split("\n").map((line) => JSON.parse(line))
    assert.isNotEmpty(lines, stderr)
    return { code, stderr, summary: lines.at(-1) as Summary, findings: lines.slice(0, -1) as ReadonlyArray<Finding> }
  })
  const ids = Array.from({ length: orders }, (_, i) => i + 1)
  yield* Effect.gen(function*() {
    const program = yield* Program.serve([], world.env)
    yield* program.untilReady
    const calls = yield* Calls.make(program.grpc)
    const keys = ids.map(() => randomUUID())
    for (const partition of [0, 1, 2, 3]) {
      const mine = ids.filter((id) => id % 4 === partition)
      const messages = mine.map((id) => ({ value: Topics.reserved(id, keys[id - 1]) }))
      // some repeats, and some ignored records
      yield* topics.writeAll(world.inventory, partition, [
        ...messages,
        ...messages.slice(0, 5),
        { value: Topics.reserved(900_000 + partition, undefined, "FAILED") },
        { value: "no event" }
      ])
    }
    // a record with the key of another order creates no payment
    yield* topics.write(world.inventory, { value: Topics.reserved(910_000, keys[2]) })
    yield* tables.count("payment").pipe(Effect.tap((n) => assert.strictEqual(n, orders)), eventually("60 seconds"))
    const answers = yield* Effect.forEach(
      ids.filter((id) => id % 3 !== 0),
      (id) => id % 3 === 1 ? calls.pay(id) : calls.refuse(id),
      { concurrency: 20 }
    )
    for (const { code } of answers) assert.strictEqual(code, "OK")
    const { code, findings, summary } = yield* documents("--wait", "30s", "--no-resends")
    assert.deepStrictEqual(findings, [])
    assert.strictEqual(code, 0)
    assert.isTrue(summary.clean && summary.drained)
    yield* program.signal("SIGTERM")
    yield* program.ended
  }).pipe(Effect.scoped)
  return { world, topics, tables, audit, documents, settled: ids.filter((id) => id % 3 !== 0) } as const
})

class Lived extends Context.Tag("test/Lived")<Lived, Effect.Effect.Success<ReturnType<typeof lived>>>() {}

const body = (orderId: number, status: string, key: string = randomUUID()) =>
  `{"idempotent_key":"${key}","order_id":${orderId},"status":"${status}"}`

layer(Layer.scoped(Lived, lived(300)), { timeout: "120 seconds", excludeTestServices: true })(
  "payments audit",
  (it) => {
    it.effect("services without faults: a table of counts, and clean as the last line", () =>
      Effect.gen(function*() {
        const { audit, documents } = yield* Lived
        const { code, stderr, stdout } = yield* audit()
        assert.strictEqual(code, 0, stdout)
        assert.strictEqual(stderr, "")
        assert.strictEqual(stdout.trimEnd().split("\n").at(-1), "clean")
        assert.match(stdout, /^payments +300$/m)
        assert.match(stdout, /^payment records +500$/m)
        const { summary } = yield* documents()
        assert.deepInclude(summary, { clean: true, drained: true, payment_records: 500, dead_letters: 4, found: {} })
        assert.deepStrictEqual(summary.inventory, { records: 329, accepted: 321, ignored: 4, malformed: 4, unread: 0 })
        assert.deepStrictEqual(summary.tables, { payments: 300, WAIT: 0, DONE: 500, DEAD: 0, unreadable: 0 })
      }))

    it.effect("each fault is found at its position, and nothing else", () =>
      Effect.gen(function*() {
        const { documents, settled, tables, topics, world } = yield* Lived
        const expected: Array<readonly [string, number | null, string | null, string | null]> = []
        const place = (topic: string, written: Topics.Written) => `${topic}/${written.partition}@${written.offset}`
        const expectAt = (finding: string, orderId: number | null, topic: string, written: Topics.Written) =>
          expected.push([finding, orderId, place(topic, written), null])
        const pick = (nth: number) => settled[nth]!
        const send = (orderId: number, value: string | Buffer, key: string | null = String(orderId)) =>
          Effect.map(topics.write(world.payment, { key, value }), ([written]) => written!)
        /** Inserts a payment and its events, DONE by default, and sends nothing. */
        const pay = Effect.fnUntraced(function*(orderId: number, says: ReadonlyArray<string>, state = "DONE") {
          const keys = says.map(() => randomUUID())
          yield* tables.query("INSERT INTO payment (order_id, status) VALUES ($1, $2)", [orderId, says.at(-1)])
          const events: Array<string> = []
          for (const [i, status] of says.entries()) {
            const [row] = yield* tables.query<{ readonly id: string }>(
              `INSERT INTO event (topic, order_id, payload, status, done_at)
             VALUES ($1, $2, $3, $4::event_status, CASE WHEN $4 = 'DONE' THEN clock_timestamp() END) RETURNING id`,
              [world.payment, orderId, body(orderId, status, keys[i]), state]
            )
            events.push(row!.id)
          }
          return { keys, events, bodies: says.map((status, i) => body(orderId, status, keys[i])) }
        })
        const sent = Effect.fnUntraced(function*(orderId: number, says: ReadonlyArray<string>) {
          const paid = yield* pay(orderId, says)
          const places: Array<Topics.Written> = []
          for (const text of paid.bodies) places.push(yield* send(orderId, text))
          return { ...paid, places }
        })
        const both = ["CREATED", "COMPLETED"]

        // damages to the work of the services
        const lost = pick(0)
        const records = yield* topics.follow(world.inventory)
        yield* tables.query("DELETE FROM event WHERE order_id = $1", [lost])
        yield* tables.query("DELETE FROM payment WHERE order_id = $1", [lost])
        const first = yield* Effect.sync(() =>
          records.filter(({ value }) => String(value).includes(`"order_id":${lost},`))
        )
          .pipe(
            Effect.tap((found) => assert.isNotEmpty(found)),
            eventually()
          )
        expectAt("lost-record", lost, world.inventory, first[0]!)

        const again = pick(1)
        const [row] = yield* tables.events(again)
        const terminal = (yield* tables.events(again))[1]!
        expectAt("resend", again, world.payment, yield* send(again, terminal.payload))
        expectAt("late-resend", again, world.payment, yield* send(again, row!.payload))

        const doubled = pick(2)
        const [payment] = yield* tables.payments(doubled)
        expectAt("double", doubled, world.payment, yield* send(doubled, body(doubled, payment!.status)))

        const contrary = pick(3)
        const [opposite] = yield* tables.payments(contrary)
        const other = opposite!.status === "FAILED" ? "COMPLETED" : "FAILED"
        expectAt("contradiction", contrary, world.payment, yield* send(contrary, body(contrary, other)))

        // an unknown record at the end, and a malformed one without a dead letter
        const [letter] = yield* topics.write(world.inventory, { value: "malformed, and dropped" })
        const [unread] = yield* topics.write(world.inventory, { value: Topics.reserved(777_777) })
        expectAt("unread", 777_777, world.inventory, unread!)
        expectAt("dead-letter-missing", null, world.inventory, letter!)

        // orders written by hand
        yield* tables.query("INSERT INTO payment (order_id, status) VALUES (500001, 'CREATED')")
        expected.push(["missing-event", 500_001, null, null])

        const unsent = yield* pay(500_002, ["CREATED"])
        expected.push(["not-on-topic", 500_002, null, unsent.events[0]!])

        const dead = yield* pay(500_003, ["CREATED"], "DEAD")
        expected.push(["dead-event", 500_003, null, dead.events[0]!])

        const waits = yield* pay(500_004, ["CREATED"], "WAIT")
        expected.push(["waiting", 500_004, null, waits.events[0]!])

        const swapped = yield* pay(500_005, both)
        yield* send(500_005, swapped.bodies[1]!)
        expectAt("order-broken", 500_005, world.payment, yield* send(500_005, swapped.bodies[0]!))

        const changed = yield* pay(500_006, ["CREATED"])
        expectAt("body-differs", 500_006, world.payment, yield* send(500_006, body(500_006, "FAILED", changed.keys[0])))

        const spaced = yield* pay(500_007, ["CREATED"])
        expectAt("body-differs", 500_007, world.payment, yield* send(500_007, spaced.bodies[0]!.replace(":", ": ")))

        yield* pay(500_008, ["CREATED"])
        expectAt("body-differs", 500_008, world.payment, yield* send(500_008, "not JSON"))

        yield* pay(500_009, ["CREATED"])
        expectAt("body-differs", 500_009, world.payment, yield* send(500_009, body(500_009, "CREATED")))

        const moved = yield* pay(500_010, ["CREATED"])
        const otherOrder = moved.bodies[0]!.replace("500010", "500999")
        expectAt("body-differs", 500_010, world.payment, yield* send(500_010, otherOrder))

        const keyless = yield* pay(500_011, ["CREATED"])
        expectAt("body-differs", 500_011, world.payment, yield* send(500_011, keyless.bodies[0]!, null))

        const twice = yield* sent(500_012, ["CREATED"])
        const [second] = yield* tables.query<{ readonly id: string }>(
          `INSERT INTO event (topic, order_id, payload, status, done_at)
         VALUES ($1, 500012, $2, 'DONE', clock_timestamp() + interval '1 hour') RETURNING id`,
          [world.payment, body(500_012, "CREATED")]
        )
        assert.notStrictEqual(second!.id, twice.events[0])
        expected.push(["event-twice", 500_012, null, second!.id])

        expectAt("unknown-record", 500_013, world.payment, yield* send(500_013, body(500_013, "CREATED")))
        expectAt("unknown-record", null, world.payment, yield* send(500_014, "not JSON", "no order"))

        const [orphan] = yield* tables.query<{ readonly id: string }>(
          `INSERT INTO event (topic, order_id, payload) VALUES ($1, 500015, $2) RETURNING id`,
          [world.payment, body(500_015, "CREATED")]
        )
        expected.push(["unknown-event", 500_015, null, orphan!.id])

        const says = yield* sent(500_016, both)
        yield* tables.query("UPDATE payment SET status = 'FAILED' WHERE order_id = 500016")
        expectAt("contradiction", 500_016, world.payment, says.places[1]!)

        // the group has read the malformed record, and not the one behind it
        const group = yield* topics.committed(world.group, world.inventory)
        yield* Client.commit(
          world.kafkaBrokers,
          world.group,
          world.inventory,
          letter!.partition,
          Number(letter!.offset) + 1
        )
        assert.isAtMost(group.get(letter!.partition)!, Number(letter!.offset))

        const { code, findings, stderr, summary } = yield* documents()
        const found = findings.map(({ event_id, finding, offset, order_id, partition, topic }) =>
          [finding, order_id, topic === null ? null : `${topic}/${partition}@${offset}`, event_id] as const
        )
        assert.sameDeepMembers(found.map(String), expected.map(String))
        assert.strictEqual(code, 1)
        assert.match(stderr, /^\{"error":"AuditNotClean","message":"the audit is not clean: [^\n]+"\}\n$/)
        assert.isFalse(summary.clean)
        assert.strictEqual(summary.found["body-differs"], 6)
        const notes = findings.filter(({ fault }) => !fault).map(({ finding }) => finding)
        assert.sameMembers(notes, ["resend", "waiting", "unread"])

        // any five of the six may be shown
        const shown = yield* Effect.map(Command.run(["audit", "--examples", "5"], world.env), ({ stdout }) => stdout)
        assert.match(shown, /^FAULT {2}body-differs: 6 \(records that differ from their event\)$/m)
        const examples = shown.matchAll(
          new RegExp(`^  order (?:5000(?:0[6-9]|1[01])|500999), ${world.payment}/\\d@\\d+: .*$`, "gm")
        )
        assert.lengthOf([...examples].filter(([line]) => !/unknown/.test(line)), 5, shown)
        assert.match(shown, /^ {2}and 1 more$/m)
        assert.match(shown.trimEnd().split("\n").at(-1)!, /^not clean: 1 lost-record, .*6 body-differs/)

        // one order alone, with the command that repairs it
        const alone = yield* Command.run(["audit", "--order", "500003"], world.env)
        assert.match(
          alone.stdout,
          new RegExp(
            `^payments +1$[^]*^  order 500003, event ${dead.events[0]}: CREATED\n    payments outbox retry --event ${
              dead.events[0]
            }, `,
            "m"
          )
        )
        assert.match(alone.stdout.trimEnd(), /\nnot clean: 1 dead-event$/)

        // unfinished after --wait: a fault of its own
        const late = yield* documents("--wait", "1s")
        assert.isFalse(late.summary.drained)
        assert.match(late.stderr, /not drained in time.*1 waiting, 1 unread/)
      }).pipe(Effect.scoped))
  }
)

it.scopedLive(
  "a resend is clean, and a fault with --no-resends; --since skips older records",
  () =>
    Effect.gen(function*() {
      const { documents, tables, topics, world } = yield* lived(12)
      const [, terminal] = yield* tables.events(1)
      yield* topics.write(world.payment, { key: "1", value: terminal!.payload })
      const lax = yield* documents()
      assert.deepStrictEqual([lax.code, lax.summary.found], [0, { resend: 1 }])
      const strict = yield* documents("--no-resends")
      assert.strictEqual(strict.code, 1)
      assert.match(strict.stderr, /1 resend/)
      // inside the window everything is read, outside nothing
      const { summary } = yield* documents("--since", "1h")
      assert.deepInclude(summary, { orders: lax.summary.orders, payment_records: lax.summary.payment_records })
      const none = yield* documents("--since", new Date(yield* Clock.currentTimeMillis).toISOString())
      assert.deepInclude(none.summary, { clean: true, orders: 0, payment_records: 0 })
    }),
  120_000
)

it.scopedLive("beside running services it reports no work in progress as a fault", () =>
  Effect.gen(function*() {
    const world = yield* World.make()
    const topics = yield* Topics.make(world.kafkaBrokers)
    yield* topics.create(world.inventory, world.dlq, world.payment)
    const program = yield* Program.serve([], world.env)
    yield* program.untilReady
    const calls = yield* Calls.make(program.grpc)
    let orders = 0
    const work = Effect.gen(function*() {
      const ids = Array.from({ length: 20 }, () => ++orders)
      yield* topics.writeAll(world.inventory, orders % 4, ids.map((id) => ({ value: Topics.reserved(id) })))
      // an order that has no payment yet is NOT_FOUND, and stays CREATED
      yield* Effect.forEach(ids, (id) => calls.pay(Math.max(1, id - 40)), { concurrency: 20 })
    }).pipe(Effect.forever)
    yield* Effect.forkScoped(work)
    let seen = 0
    for (let n = 0; n < 3; n++) {
      const { code, stderr, stdout } = yield* Command.run(["audit", "--json", "--examples", "3"], world.env)
      assert.strictEqual(code, 0, stdout + stderr)
      const { orders } = JSON.parse(stdout.trimEnd().split("\n").at(-1)!) as Summary
      assert.isAbove(orders, seen)
      seen = orders
    }
  }), 120_000)

it.scopedLive(
  "a topic with transactions: control records at the end and aborted records are skipped",
  () =>
    Effect.gen(function*() {
      const { documents, tables, world } = yield* lived(4)
      const keys = [randomUUID(), randomUUID()]
      yield* tables.query("INSERT INTO payment (order_id, status) VALUES (50, 'CREATED')")
      yield* tables.query(
        "INSERT INTO event (topic, order_id, payload, status, done_at) VALUES ($1, 50, $2, 'DONE', clock_timestamp())",
        [world.payment, body(50, "CREATED", keys[0])]
      )
      yield* Client.transaction(
        world.kafkaBrokers,
        world.payment,
        [{ key: "50", value: body(50, "CREATED", keys[0]) }],
        "commit"
      )
      yield* Client.transaction(
        world.kafkaBrokers,
        world.payment,
        [{ key: "50", value: body(50, "FAILED", keys[1]) }],
        "abort"
      )
      yield* Client.transaction(world.kafkaBrokers, world.inventory, [{ value: Topics.reserved(51) }], "abort")
      const { code, findings, summary } = yield* documents()
      assert.deepStrictEqual(findings, [])
      assert.strictEqual(code, 0)
      assert.strictEqual(summary.inventory["unread"], 0)
      const waited = yield* documents("--wait", "20s")
      assert.strictEqual(waited.code, 0)
    }),
  120_000
)

it.scopedLive(
  "skipped: records deleted past the committed offset are a fault, before and after the consumer skips them",
  () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const topics = yield* Topics.make(world.kafkaBrokers)
      yield* topics.create(world.inventory, world.dlq, world.payment)
      const records = Array.from({ length: 10 }, (_, i) => ({ value: Topics.reserved(i + 1) }))
      yield* topics.writeAll(world.inventory, 2, records)
      yield* Client.commit(world.kafkaBrokers, world.group, world.inventory, 2, 3)
      yield* Client.trim(world.kafkaBrokers, world.inventory, 2, 7)
      assert.strictEqual((yield* Command.run(["migrate"], world.env)).code, 0)

      const skippedAt = Effect.fnUntraced(function*(offset: number) {
        const { code, stdout } = yield* Command.run(["audit"], world.env)
        assert.strictEqual(code, 1, stdout)
        assert.match(
          stdout,
          new RegExp(`^FAULT  skipped: 1 .*\n  ${world.inventory}/2@${offset}: 4 records before$`, "m")
        )
      })
      yield* skippedAt(3)

      const consumer = yield* Program.serve(["consumer"], world.env)
      yield* Effect.tap(topics.committed(world.group, world.inventory), (committed) =>
        assert.strictEqual(committed.get(2), 10)).pipe(eventually())
      assert.strictEqual(yield* consumer.metric("payments_inventory_skipped_total", "partition=\"2\""), 4)
      assert.match(
        consumer.stderr(),
        /partition 2: 4 records were skipped.* The committed offset was 3; reading goes on at 7/
      )
      yield* skippedAt(10)
    }),
  60_000
)

it.scopedLive(
  "a server that does not answer is exit code 5; an invalid option is 2",
  () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const nowhere = `127.0.0.1:${yield* Effect.scoped(Ports.free)}`
      const migrated = yield* Command.run(["migrate"], world.env)
      assert.strictEqual(migrated.code, 0)
      const [database, kafka, since, topic] = yield* Effect.all([
        Command.run(["audit"], { ...world.env, DATABASE_URL: `postgres://payments:hush@${nowhere}/payments` }),
        Command.run(["audit", "--json"], { ...world.env, KAFKA_BROKERS: nowhere }),
        Command.run(["audit", "--since", "yesterday"], world.env),
        Command.run(["audit"], world.env)
      ], { concurrency: 2 })
      assert.strictEqual(database.code, 5, database.stderr)
      assert.match(database.stderr, /the database is not available/)
      assert.strictEqual(kafka.code, 5, kafka.stderr)
      assert.match(kafka.stderr, /kafka is not available/)
      assert.strictEqual(since.code, 2, since.stderr)
      assert.strictEqual(topic.code, 1, topic.stderr)
      assert.match(topic.stderr, /topic .* does not exist/)
    }),
  60_000
)
