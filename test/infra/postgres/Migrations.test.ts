import { FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck as fc, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { migrations } from "../../../src/cli/Prepare.js"
import { OrderId } from "../../../src/domain/Payment.js"
import * as Migrations from "../../../src/infra/postgres/Migrations.js"
import * as Postgres from "../../../src/infra/postgres/Postgres.js"
import { Outbox } from "../../../src/outbox/Outbox.js"
import { OutboxWake } from "../../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../../src/payments/PaymentRepo.js"
import { Payments } from "../../../src/payments/Payments.js"
import * as PgTest from "../../harness/PgTest.js"

const outbox = Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 }).pipe(
  Layer.provide(OutboxWake.layerLocal)
)
const payments = Payments.Default.pipe(
  Layer.provide(PaymentRepo.Default),
  Layer.provideMerge(outbox)
)

const empty = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.provide(Effect.scoped(test), Layer.mergeAll(PgTest.layerEmpty, NodeContext.layer))

const names = (steps: ReadonlyArray<readonly [number, string]>) => steps.map(([, name]) => name)
const all = [
  "payment_and_outbox",
  "adopt_and_index",
  "shards",
  "room_on_pages",
  "topic_spread",
  "operation",
  "expiry",
  "settled_by"
]

/** Tables, types and functions of the database that are not PostgreSQL's own. */
const things = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(
    sql<{ readonly name: string }>`
      SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
      UNION SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype = 'e' ORDER BY name
    `,
    (rows) => rows.map((_) => _.name)
  ))

/** Options for migrations with these texts, in a temporary folder. */
const folderOf = (files: Record<string, string>) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const folder = yield* fs.makeTempDirectoryScoped()
    yield* Effect.forEach(Object.entries(files), ([name, text]) => fs.writeFileString(`${folder}/${name}`, text))
    return { folder, table: "test_migrations" }
  })

describe("Migrations", () => {
  it.scopedLive("an empty database gets all migrations in order; a second run changes nothing", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(names(yield* Migrations.pending(migrations)), all)
      assert.deepStrictEqual(names(yield* Migrations.migrate(migrations)), all)
      const made = yield* things
      assert.includeMembers(made, ["payment", "event", "payment_status", "event_status", "payments_migrations"])
      assert.deepStrictEqual(yield* Migrations.pending(migrations), [])
      assert.deepStrictEqual(yield* Migrations.migrate(migrations), [])
      assert.deepStrictEqual(yield* things, made)
    }).pipe(empty))

  it.scopedLive("four processes migrate at once: one applies the migrations, all succeed", () =>
    Effect.gen(function*() {
      const url = yield* PgTest.DatabaseUrl
      const process = Migrations.migrate(migrations).pipe(
        Effect.provide(Layer.fresh(Postgres.layer({ url: Redacted.make(url), maxConnections: 2 })))
      )
      const applied = yield* Effect.all([process, process, process, process], { concurrency: "unbounded" })
      assert.deepStrictEqual(applied.map(names).sort((a, b) => a.length - b.length), [[], [], [], all])
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT FROM payments_migrations`, all.length)
      assert.lengthOf(
        yield* sql`SELECT FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        0
      )
    }).pipe(empty))

  it.scopedLive("a migration that does not get the lock of a table gives it up for others, and may be tried again", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE held ()`
      const options = yield* folderOf({ "0001_change.sql": "ALTER TABLE held ADD COLUMN changed int" })
      const holder = yield* sql.reserve
      yield* holder.executeRaw("BEGIN", [])
      // the lock of a vacuum
      yield* holder.executeRaw("LOCK TABLE held IN SHARE UPDATE EXCLUSIVE MODE", [])
      const migrating = yield* Effect.fork(Migrations.migrate(options))
      yield* sql`SELECT FROM pg_locks WHERE relation = 'held'::regclass AND NOT granted`.pipe(
        Effect.repeat({ until: (rows) => rows.length === 1, schedule: Schedule.spaced("5 millis") }),
        Effect.timeout("20 seconds")
      )
      // a reader queues behind it
      yield* Effect.timeout(sql`SELECT FROM held`, "10 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(migrating)))._tag, "TableLocked")
      yield* holder.executeRaw("COMMIT", [])
      assert.deepStrictEqual(names(yield* Migrations.migrate(options)), ["change"])
    }).pipe(empty))

  it.scopedLive("an interrupted wait for the lock does not block the others", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const waits = (count: number) =>
        sql`
          SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        `.pipe(
          Effect.repeat({ until: (rows) => rows.length === count, schedule: Schedule.spaced("5 millis") }),
          Effect.timeout("20 seconds")
        )
      const holder = yield* Effect.flatMap(sql.reserve, (connection) =>
        connection.executeRaw("SELECT pg_advisory_lock($1)", [8_113_902]).pipe(
          Effect.as(connection.executeRaw("SELECT pg_advisory_unlock($1)", [8_113_902]))
        ))
      const first = yield* Effect.fork(Migrations.migrate(migrations))
      yield* waits(1)
      yield* Fiber.interrupt(first)
      yield* waits(0)
      const second = yield* Effect.fork(Migrations.migrate(migrations))
      yield* waits(1)
      yield* holder
      assert.deepStrictEqual(names(yield* Fiber.join(second)), all)
    }).pipe(empty))

  it.scopedLive("a failed migration rolls back all of its run, and the error gives the reason", () =>
    Effect.gen(function*() {
      const files = {
        "0001_good.sql": "CREATE TABLE good (id int); CREATE TYPE mood AS ENUM ('a');",
        "0002_bad.sql": "CREATE TABLE half (id int); INSERT INTO half VALUES (1 / 0);"
      }
      const options = yield* folderOf(files)
      const error = yield* Effect.flip(Migrations.migrate(options))
      assert.strictEqual(error._tag, "MigrationFailed")
      assert.include(error.message, "division by zero")
      assert.deepStrictEqual((yield* things).filter((name) => !name.startsWith("test_migrations")), [])
      assert.deepStrictEqual(names(yield* Migrations.pending(options)), ["good", "bad"])

      const fs = yield* FileSystem.FileSystem
      yield* fs.writeFileString(`${options.folder}/0002_bad.sql`, "CREATE TABLE whole (id int);")
      assert.deepStrictEqual(names(yield* Migrations.migrate(options)), ["good", "bad"])
      assert.includeMembers(yield* things, ["good", "whole"])
    }).pipe(empty))

  it.scopedLive("a failed commit is a typed failure", () =>
    Effect.gen(function*() {
      const options = yield* folderOf({
        "0001_late.sql": `
          CREATE TABLE late (id int);
          CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
          CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON late
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
          INSERT INTO late VALUES (1);`
      })
      assert.strictEqual((yield* Effect.flip(Migrations.migrate(options)))._tag, "MigrationFailed")
      assert.notInclude(yield* things, "late")
    }).pipe(empty))

  it.scopedLive("only numbered files run, in the order of their numbers", () =>
    Effect.gen(function*() {
      const options = yield* folderOf({
        "0002_b.sql": "INSERT INTO a VALUES (2);",
        "0010_c.sql": "INSERT INTO a VALUES (10);",
        "0001_a.sql": "CREATE TABLE a (id int);",
        "README.md": "no SQL",
        "draft.sql": "no SQL"
      })
      assert.deepStrictEqual(yield* Migrations.migrate(options), [[1, "a"], [2, "b"], [10, "c"]])
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT id FROM a`, [{ id: 2 }, { id: 10 }])
    }).pipe(empty))

  it.scopedLive("an unreachable database is DatabaseUnavailable, also during a migration", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const away = yield* Migrations.migrate(migrations).pipe(
        Effect.provide(Postgres.layer({ url: Redacted.make("postgres://u:p@127.0.0.1:1/db"), maxConnections: 2 })),
        Effect.flip
      )
      assert.strictEqual(away._tag, "DatabaseUnavailable")

      const options = yield* folderOf({ "0001_slow.sql": "CREATE TABLE slow AS SELECT 1 AS one FROM pg_sleep(60);" })
      const fiber = yield* Effect.fork(Effect.flip(Migrations.migrate(options)))
      yield* sql<{ readonly killed: boolean }>`
        SELECT pg_terminate_backend(pid) AS killed FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'
      `.pipe(
        Effect.repeat({ until: (rows) => rows.length === 1, schedule: Schedule.spaced("5 millis") }),
        Effect.timeout("20 seconds")
      )
      const gone = yield* Fiber.join(fiber)
      assert.strictEqual(gone._tag, "DatabaseUnavailable")
      assert.notInclude(yield* things, "slow")
    }).pipe(empty))
})

/** A variant of the Go service's tables. */
interface Shape {
  /** Declaration of the ids. */
  readonly paymentId: string
  readonly eventId: string
  readonly payload: string
  readonly time: string
  readonly reservedTo: string
  readonly orderId: string
  /** Further constraints and indexes. */
  readonly more: string
}

const usual: Shape = {
  paymentId: "bigserial PRIMARY KEY",
  eventId: "bigserial PRIMARY KEY",
  payload: "json NOT NULL",
  time: "timestamp",
  reservedTo: "timestamp",
  orderId: "bigint NOT NULL UNIQUE",
  more: ""
}

const schema = ({ eventId, more, orderId, payload, paymentId, reservedTo, time }: Shape) => `
  CREATE TYPE payment_status AS ENUM ('CREATED', 'FAILED', 'COMPLETED');
  CREATE TYPE event_status AS ENUM ('WAIT', 'DONE');
  CREATE TABLE payment (
    id ${paymentId},
    order_id ${orderId},
    status payment_status NOT NULL DEFAULT 'CREATED',
    created_at ${time} DEFAULT now(),
    updated_at ${time} DEFAULT now()
  );
  CREATE TABLE event (
    id ${eventId},
    topic varchar(255) NOT NULL,
    payload ${payload},
    status event_status NOT NULL DEFAULT 'WAIT',
    created_at ${time} NOT NULL DEFAULT now(),
    reserved_to ${reservedTo}
  );
  ${more}
`

const shapes: Record<string, Partial<Shape>> = {
  "bigserial ids, json": {},
  "serial ids, jsonb": { paymentId: "serial PRIMARY KEY", eventId: "serial PRIMARY KEY", payload: "jsonb NOT NULL" },
  "identity ids, text": {
    paymentId: "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    eventId: "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    payload: "text NOT NULL"
  },
  "bigint ids without a default, varchar": {
    paymentId: "bigint PRIMARY KEY",
    eventId: "bigint PRIMARY KEY",
    payload: "varchar(1000)"
  },
  "uuid ids with a default, jsonb with a default": {
    paymentId: "uuid PRIMARY KEY DEFAULT gen_random_uuid()",
    eventId: "uuid PRIMARY KEY DEFAULT gen_random_uuid()",
    payload: "jsonb NOT NULL DEFAULT '{}'"
  },
  "uuid ids without a default, text": { paymentId: "uuid PRIMARY KEY", eventId: "uuid PRIMARY KEY", payload: "text" },
  "a primary key with another name": {
    paymentId: "uuid CONSTRAINT pk_payments PRIMARY KEY",
    eventId: "uuid CONSTRAINT pk_events PRIMARY KEY"
  },
  "text ids without a default": { paymentId: "text PRIMARY KEY", eventId: "text PRIMARY KEY" },
  "order_id integer, with a unique constraint of another name": {
    orderId: "integer NOT NULL CONSTRAINT one_payment_per_order UNIQUE"
  },
  "order_id without a unique constraint": { orderId: "bigint" },
  "times with a zone": { time: "timestamptz", reservedTo: "timestamptz" },
  "times in whole seconds": { time: "timestamp(0)", eventId: "uuid PRIMARY KEY", payload: "jsonb" },
  "reserved_to always there": { reservedTo: "timestamp NOT NULL DEFAULT now()" },
  "indexes of their own": {
    more: "CREATE INDEX ON event (status, created_at); CREATE INDEX ON event (created_at) WHERE status = 'WAIT'"
  },
  "an index into the payload": { more: "CREATE INDEX ON event ((payload ->> 'order_id'))" },
  "payload as bytes": { payload: "bytea NOT NULL" },
  "an order of the event's payment": {
    more: "ALTER TABLE event ADD COLUMN payment_order bigint REFERENCES payment (order_id)"
  }
}

const key = () => randomUUID()

/** An event body in the Go service's format. */
const bodyOf = (order: bigint, status: string, uuid: string) =>
  `{"idempotent_key":"${uuid}","order_id":${order},"status":"${status}"}`

describe("adoption of a database that the Go service filled", () => {
  for (const [name, change] of Object.entries(shapes)) {
    it.scopedLive(name, () =>
      Effect.gen(function*() {
        const shape = { ...usual, ...change }
        const sql = yield* SqlClient.SqlClient
        yield* sql.unsafe(schema(shape))
        const ownId = (declared: string) =>
          /^(uuid|text|bigint PRIMARY)/.test(declared) && !declared.includes("DEFAULT")
        const idOf = (declared: string, n: number) => /^(uuid|text)/.test(declared) ? `'${key()}'` : `${n}`
        const big = shape.orderId.startsWith("integer") ? 2147483647n : 9007199254740993n
        const at = (second: number) => `timestamp '2024-03-01 12:00:00' + interval '${second} seconds'`

        let n = 0
        const insertPayment = (order: bigint, status: string) => {
          n++
          const id = ownId(shape.paymentId) ? [["id", idOf(shape.paymentId, n)]] : []
          const columns = [...id, ["order_id", String(order)], ["status", `'${status}'`], ["created_at", at(n)], [
            "updated_at",
            at(n)
          ]]
          return sql.unsafe(
            `INSERT INTO payment (${columns.map(([name]) => name)}) VALUES (${columns.map(([, value]) => value)})`
          )
        }
        const insertEvent = (body: string, status: string, second: number) => {
          n++
          const id = ownId(shape.eventId) ? [["id", idOf(shape.eventId, n)]] : []
          const literal = shape.payload.startsWith("bytea") ? `convert_to('${body}', 'UTF8')` : `'${body}'`
          const columns = [
            ...id,
            ["topic", "'payment'"],
            ["payload", literal],
            ["status", `'${status}'`],
            ["created_at", at(second)],
            // leases that ended long ago
            ["reserved_to", at(second + 5)]
          ]
          return sql.unsafe(
            `INSERT INTO event (${columns.map(([name]) => name)}) VALUES (${columns.map(([, value]) => value)})`
          )
        }
        const [first, second, third] = [big, 1n, 2n]
        yield* insertPayment(first, "COMPLETED")
        yield* insertPayment(second, "CREATED")
        yield* insertPayment(third, "CREATED")
        const keys = [key(), key(), key(), key()] as const
        yield* insertEvent(bodyOf(third, "CREATED", keys[3]), "DONE", 1)
        // both events of one order wait; their times are equal in whole seconds
        yield* insertEvent(bodyOf(first, "CREATED", keys[0]), "WAIT", 10)
        yield* insertEvent(bodyOf(first, "COMPLETED", keys[1]), "WAIT", shape.time === "timestamp(0)" ? 10 : 11)
        yield* insertEvent(
          ` { "status" : "CREATED", "order_id": ${second},\n "idempotent_key":"${keys[2].toUpperCase()}", "note": 1 } `,
          "WAIT",
          12
        )
        yield* insertEvent("{\"hello\":\"world\"}", "WAIT", 13)

        assert.deepStrictEqual(names(yield* Migrations.migrate(migrations)), all)
        assert.deepStrictEqual(yield* Migrations.migrate(migrations), [])

        // rows stay, times have a zone
        const rows = yield* sql<{ readonly order_id: string; readonly status: string; readonly created_at: Date }>`
          SELECT order_id, status, created_at FROM payment ORDER BY created_at
        `
        assert.deepStrictEqual(rows.map((_) => [_.order_id, _.status, _.created_at.toISOString()]), [
          [String(first), "COMPLETED", "2024-03-01T12:00:01.000Z"],
          [String(second), "CREATED", "2024-03-01T12:00:02.000Z"],
          [String(third), "CREATED", "2024-03-01T12:00:03.000Z"]
        ])
        const times = yield* sql<{ readonly data_type: string }>`
          SELECT DISTINCT data_type FROM information_schema.columns
          WHERE table_schema = 'public' AND table_name IN ('payment', 'event') AND data_type LIKE 'timestamp%'
        `
        assert.deepStrictEqual(times.map((_) => _.data_type), ["timestamp with time zone"])
        const events = yield* sql<{ readonly status: string; readonly n: number }>`
          SELECT status, count(*)::int AS n FROM event GROUP BY status ORDER BY status
        `
        assert.deepStrictEqual(events, [{ status: "WAIT", n: 3 }, { status: "DONE", n: 1 }, { status: "DEAD", n: 1 }])
        const [dead] = yield* sql<{ readonly payload: string; readonly last_error: string }>`
          SELECT payload, last_error FROM event WHERE status = 'DEAD'
        `
        assert.deepStrictEqual(JSON.parse(dead!.payload), { hello: "world" })
        assert.include(dead!.last_error, "no payment event")

        // waiting events are sent with the exact body, one of an order at a time
        const outbox = yield* Outbox
        const claim = yield* outbox.claim(100)
        assert.deepStrictEqual(claim.events.map(({ key, payload, topic }) => [topic, key, payload]), [
          ["payment", String(first), bodyOf(first, "CREATED", keys[0])],
          ["payment", String(second), bodyOf(second, "CREATED", keys[2])]
        ])
        assert.lengthOf(yield* outbox.markDone(claim, claim.events), 2)
        const next = yield* outbox.claim(100)
        assert.deepStrictEqual(next.events.map((_) => _.payload), [bodyOf(first, "COMPLETED", keys[1])])
        yield* outbox.release(next, next.events, "0 seconds")
        const again = yield* outbox.claim(100)
        assert.lengthOf(yield* outbox.markDone(again, again.events), 1)

        // adopted payments settle and new ones are created
        const payments = yield* Payments
        yield* payments.settle(OrderId.make(second), "FAILED")
        yield* payments.settle(OrderId.make(third), "COMPLETED")
        const fresh = { orderId: OrderId.make(9223372036854775807n), idempotentKey: key(), traceparent: Option.none() }
        const repeat = { orderId: OrderId.make(first), idempotentKey: key(), traceparent: Option.none() }
        assert.deepStrictEqual(yield* payments.reserve([fresh, repeat]), [{ _tag: "Created" }, { _tag: "OrderTaken" }])
        yield* payments.settle(fresh.orderId, "COMPLETED")
        assert.strictEqual((yield* payments.get(OrderId.make(first))).status, "COMPLETED")
        const sent = (yield* outbox.claim(100)).events.map(({ key, payload }) => [key, JSON.parse(payload).status])
        assert.deepStrictEqual(sent, [[String(second), "FAILED"], [String(third), "COMPLETED"], [
          String(fresh.orderId),
          "CREATED"
        ]])
      }).pipe(Effect.provide(payments), empty))
  }

  it.scopedLive("times without a zone are read as UTC in any zone of the server", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const url = yield* PgTest.DatabaseUrl
      yield* sql.unsafe(schema(usual))
      yield* sql`INSERT INTO payment (order_id, created_at) VALUES (1, '2024-03-01 12:00:00')`
      yield* sql.unsafe(`ALTER DATABASE ${new URL(url).pathname.slice(1)} SET timezone = 'Asia/Tokyo'`)
      yield* Migrations.migrate(migrations).pipe(
        // open connections keep their zone
        Effect.provide(Layer.fresh(Postgres.layer({ url: Redacted.make(url), maxConnections: 2 })))
      )
      const [payment] = yield* sql<{ readonly created_at: Date }>`SELECT created_at FROM payment`
      assert.strictEqual(payment!.created_at.toISOString(), "2024-03-01T12:00:00.000Z")
    }).pipe(empty))

  it.scopedLive("invalid rows become dead with a reason and block no other row", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(schema({ ...usual, payload: "text" }))
      const bodies = [
        "",
        "no json",
        "null",
        "[]",
        "{}",
        `{"order_id":5}`,
        `{"order_id":5,"status":"PAID"}`,
        `{"order_id":"x","status":"CREATED"}`,
        `{"order_id":1.5,"status":"CREATED"}`,
        `{"order_id":9223372036854775808,"status":"CREATED"}`,
        `{"order_id":0,"status":"CREATED"}`,
        `{"order_id":5,"status":"CREATED","idempotent_key":"no uuid"}`,
        `{"order_id":5,"status":"CREATED","note":"\\u0000"}`
      ]
      for (const body of bodies) yield* sql`INSERT INTO event (topic, payload) VALUES ('payment', ${body})`
      const good = bodyOf(5n, "CREATED", key())
      yield* sql`INSERT INTO event (topic, payload) VALUES ('payment', ${good})`
      yield* Migrations.migrate(migrations)
      const dead = yield* sql<{ readonly payload: string; readonly last_error: string | null }>`
        SELECT payload, last_error FROM event WHERE status = 'DEAD' ORDER BY id
      `
      assert.deepStrictEqual(dead.map((_) => _.payload), bodies)
      assert.isTrue(dead.every((_) => _.last_error?.startsWith("adopted payload is no payment event") === true))
      assert.deepStrictEqual((yield* Effect.flatMap(Outbox, (_) => _.claim(100))).events.map((_) => _.payload), [good])
    }).pipe(Effect.provide(outbox), empty))

  it.scopedLive("a body without a key gets one, and a live lease stays", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(schema({ ...usual, payload: "jsonb" }))
      yield* sql`
        INSERT INTO event (topic, payload, reserved_to) VALUES
          ('payment', '{"order_id":1,"status":"CREATED"}', NULL),
          ('payment', ${bodyOf(2n, "CREATED", key())}, now() AT TIME ZONE 'UTC' + interval '1 hour')
      `
      yield* Migrations.migrate(migrations)
      const { events } = yield* Effect.flatMap(Outbox, (_) => _.claim(100))
      assert.deepStrictEqual(events.map((_) => _.key), ["1"])
      assert.match(events[0]!.payload, /^\{"idempotent_key":"[0-9a-f-]{36}","order_id":1,"status":"CREATED"\}$/)
    }).pipe(Effect.provide(outbox), empty))

  it.scopedLive("waiting events keep the order of their ids, for any number of them", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(schema({ ...usual, payload: "jsonb" }))
      const [orders] = fc.sample(
        fc.shuffledSubarray(Array.from({ length: 300 }, (_, i) => BigInt(i + 1)), { minLength: 300 }),
        1
      )
      for (const order of orders!) {
        yield* sql`INSERT INTO event (topic, payload) VALUES ('payment', ${bodyOf(order, "CREATED", key())})`
      }
      yield* Migrations.migrate(migrations)
      const { events } = yield* Effect.flatMap(Outbox, (_) => _.claim(1_000))
      assert.deepStrictEqual(events.map((_) => BigInt(_.key)), orders)
    }).pipe(Effect.provide(outbox), empty))
})
