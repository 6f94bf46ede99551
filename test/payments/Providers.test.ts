import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Option, Redacted, Schedule } from "effect"
import { randomUUID } from "node:crypto"
import { migrations } from "../../src/cli/Prepare.js"
import { rightsOf } from "../../src/cli/Rights.js"
import { OrderId } from "../../src/domain/Payment.js"
import * as Migrations from "../../src/infra/postgres/Migrations.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import * as PostgresRights from "../../src/infra/postgres/PostgresRights.js"
import { Health } from "../../src/infra/runtime/Health.js"
import * as Parts from "../../src/ops/Parts.js"
import { Outbox } from "../../src/outbox/Outbox.js"
import { OutboxWake } from "../../src/outbox/OutboxWake.js"
import { PaymentRepo } from "../../src/payments/PaymentRepo.js"
import { Payments } from "../../src/payments/Payments.js"
import * as PgTest from "../harness/PgTest.js"

const outbox = Outbox.Default({ topic: "payment", lease: "30 seconds", maxAttempts: 10 })
const rights = rightsOf({ paymentExpiry: Option.none() }, ["consumer", "relay", "grpc"])
const services = Layer.mergeAll(
  Payments.Default.pipe(
    Layer.provide(PaymentRepo.Default),
    Layer.provideMerge(outbox),
    Layer.provide(OutboxWake.layerLocal)
  ),
  Parts.layer({ running: ["grpc"], rights })
)

/** Returns an effect with the reason why `postgres` is not ok; undefined when it is. */
const reasonOfPostgres = Effect.map(Health, (health) => {
  health.part("migrations").working()
  return Effect.map(health.current(), ({ dependencies }) => dependencies["postgres"]!.reason)
})

const on = (url: string, maxConnections = 5) => Postgres.layer({ url: Redacted.make(url), maxConnections })
const all = (url: string, maxConnections?: number) => Layer.provideMerge(services, on(url, maxConnections))

const migrated = Effect.gen(function*() {
  const url = yield* PgTest.freshDatabase
  yield* Effect.provide(Migrations.migrate(migrations), on(url))
  return { url, database: new URL(url).pathname.slice(1) }
}).pipe(Effect.provide(NodeContext.layer))

/** A role of this database alone, and the URL by which it comes. */
const role = (url: string, attributes = "") =>
  Effect.map(
    Effect.acquireRelease(
      Effect.suspend(() => {
        const name = `role_${randomUUID().slice(0, 8)}`
        return Effect.as(PgTest.admin(`CREATE ROLE ${name} LOGIN PASSWORD 'hush' ${attributes}`), name)
      }),
      (name) =>
        Effect.provide(
          Effect.flatMap(
            SqlClient.SqlClient,
            (sql) => Effect.ignore(sql.unsafe(`DROP OWNED BY ${name}; DROP ROLE ${name}`))
          ),
          on(url)
        )
    ),
    (name) => {
      const own = new URL(url)
      own.username = name
      own.password = "hush"
      return { name, url: own.href }
    }
  )

const order = (n: number) => OrderId.make(9_007_199_254_740_993n + BigInt(n))
const reservation = (n: number) => ({ orderId: order(n), idempotentKey: randomUUID(), traceparent: Option.none() })

const soon = { schedule: Schedule.spaced("50 millis") }

/** As bad as a provider could set them, each alone. */
const hostile: Record<string, string> = {
  default_transaction_isolation: "serializable",
  default_transaction_deferrable: "on",
  "\"TimeZone\"": "Asia/Kathmandu",
  "\"DateStyle\"": "German, DMY",
  "\"IntervalStyle\"": "sql_standard",
  bytea_output: "escape",
  statement_timeout: "300ms",
  lock_timeout: "1ms",
  idle_in_transaction_session_timeout: "1ms",
  idle_session_timeout: "500ms",
  transaction_timeout: "500ms",
  standard_conforming_strings: "off",
  backslash_quote: "on",
  extra_float_digits: "-15",
  client_encoding: "LATIN1",
  client_min_messages: "debug1",
  array_nulls: "off",
  transform_null_equals: "on",
  exit_on_error: "on",
  quote_all_identifiers: "on",
  synchronous_commit: "off",
  search_path: "nowhere",
  work_mem: "64kB",
  enable_indexscan: "off",
  enable_indexonlyscan: "off",
  enable_nestloop: "off",
  enable_hashjoin: "off",
  enable_sort: "off",
  plan_cache_mode: "force_custom_plan",
  jit_above_cost: "0"
}

describe("PostgreSQL as providers set it", () => {
  it.scopedLive("no setting of the database changes the behaviour of the service", () =>
    Effect.gen(function*() {
      const url = yield* PgTest.freshDatabase
      const name = new URL(url).pathname.slice(1)
      const there = yield* PgTest.admin("SELECT lower(name) AS name FROM pg_settings")
      for (const [setting, value] of Object.entries(hostile)) {
        if (!there.some((_) => _["name"] === setting.replaceAll("\"", "").toLowerCase())) continue
        yield* PgTest.admin(`ALTER DATABASE ${name} SET ${setting} = '${value}'`)
      }
      yield* Effect.gen(function*() {
        assert.isNotEmpty(yield* Migrations.migrate(migrations))
        const payments = yield* Payments
        const outbox = yield* Outbox
        const sql = yield* SqlClient.SqlClient
        const batch = Array.from({ length: 200 }, (_, i) => reservation(i))
        const decided = yield* payments.reserve(batch)
        assert.isTrue(decided.every(({ _tag }) => _tag === "Created"))
        assert.isTrue((yield* payments.reserve(batch)).every(({ _tag }) => _tag === "Repeated"))
        // rivals for the same rows wait for each other
        yield* Effect.forEach(batch.slice(0, 20), ({ orderId }) =>
          Effect.all(
            [1, 2, 3].map(() => payments.settle(orderId, "COMPLETED")),
            { concurrency: "unbounded" }
          ), {
          concurrency: 5
        })
        const held = yield* Effect.fork(sql.withTransaction(
          Effect.zipRight(sql`SELECT FROM payment WHERE order_id = ${order(50)} FOR UPDATE`, Effect.sleep("400 millis"))
        ))
        yield* Effect.sleep("100 millis")
        yield* payments.settle(order(50), "FAILED")
        yield* held
        const payment = yield* payments.get(order(0))
        assert.strictEqual(payment.status, "COMPLETED")
        assert.isBelow(Math.abs(Date.now() - payment.updatedAt.getTime()), 60_000)

        const claim = yield* outbox.claim(500)
        assert.lengthOf(claim.events, 200)
        const waited = yield* outbox.markDone(claim, claim.events)
        assert.isTrue(waited.every((seconds) => seconds > 0 && seconds < 60 && !Number.isInteger(seconds)))
        assert.lengthOf((yield* outbox.claim(500)).events, 21)
        const [session] = yield* sql`
          SELECT current_setting('synchronous_commit') AS durable, current_setting('transaction_isolation') AS isolation,
                 current_schema() AS schema, current_setting('TimeZone') AS zone
        `
        assert.deepStrictEqual(session, { durable: "on", isolation: "read committed", schema: "public", zone: "UTC" })
        yield* Postgres.writable
      }).pipe(Effect.provide(Layer.merge(all(url), NodeContext.layer)))
    }))

  it.scopedLive("read-only: not ready with the reason, reads work; ready within seconds when it is writable again", () =>
    Effect.gen(function*() {
      const { database, url } = yield* migrated
      yield* Effect.gen(function*() {
        const payments = yield* Payments
        const reason = yield* reasonOfPostgres
        yield* payments.reserve([reservation(1), reservation(2)])
        assert.isUndefined(yield* reason)
        // sessions have it from their beginning, as after the fail-over to a server that is read-only
        yield* PgTest.admin(`ALTER DATABASE ${database} SET default_transaction_read_only = on`)
        yield* PgTest.admin(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}' AND pid <> pg_backend_pid()`
        )
        yield* Effect.repeat(reason, { ...soon, until: (_) => _?.includes("read-only") === true })
        assert.strictEqual(yield* reason, "the database is read-only: default_transaction_read_only is on")
        // as many as there are connections
        const refused = yield* Effect.all(
          Array.from({ length: 5 }, () => Effect.flip(payments.settle(order(1), "COMPLETED"))),
          { concurrency: "unbounded" }
        )
        for (const { message } of refused) assert.match(message, /^the database is read-only: .*SQLSTATE 25006\)$/)
        assert.strictEqual((yield* payments.get(order(1))).status, "CREATED")

        yield* PgTest.admin(`ALTER DATABASE ${database} RESET default_transaction_read_only`)
        const begun = performance.now()
        yield* Effect.retry(payments.settle(order(1), "COMPLETED"), soon)
        yield* payments.settle(order(2), "COMPLETED")
        yield* Effect.repeat(reason, { ...soon, until: (reason) => reason === undefined })
        assert.isBelow(performance.now() - begun, 10_000)
      }).pipe(Effect.provide(all(url)))
    }))

  it.scopedLive("missing rights of a role are all named; with them the role needs no right to create", () =>
    Effect.gen(function*() {
      const { url } = yield* migrated
      const app = yield* role(url)
      const grant = (statement: string) =>
        Effect.provide(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)), on(url))
      const flipped = <A, E extends Error, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.map(Effect.flip(effect), ({ message }) => message)

      yield* Effect.gen(function*() {
        assert.match(
          yield* flipped(Migrations.migrate(migrations)),
          new RegExp(`^the database refuses: .*payments_migrations \\(role ${app.name}, SQLSTATE 42501\\)$`)
        )
        yield* grant(`GRANT SELECT ON payments_migrations TO ${app.name}`)
        assert.deepStrictEqual(yield* Migrations.migrate(migrations), [])
        yield* grant(
          `GRANT SELECT, INSERT ON payment TO ${app.name}; GRANT ALL ON outbox_shard, outbox_relay, outbox_topic TO ${app.name}`
        )
        const missing = yield* flipped(PostgresRights.check(rights))
        assert.include(
          missing,
          `role ${app.name} lacks UPDATE on table payment: GRANT UPDATE ON payment TO ${app.name}`
        )
        assert.match(missing, new RegExp(`GRANT .*DELETE.* ON event TO ${app.name}`))
        const payments = yield* Payments
        const refused = yield* Effect.flip(payments.reserve([reservation(1)]))
        assert.match(
          refused.message,
          new RegExp(`^the database refuses: .*event \\(role ${app.name}, SQLSTATE 42501\\)$`)
        )
        const reason = yield* reasonOfPostgres
        assert.isString(yield* reason)
        yield* grant(`GRANT UPDATE ON payment TO ${app.name}; GRANT ALL ON event TO ${app.name}`)
        assert.deepStrictEqual(yield* payments.reserve([reservation(1)]), [{ _tag: "Created" }])
        yield* Effect.repeat(reason, { ...soon, until: (reason) => reason === undefined })
        yield* grant("ALTER TABLE event ENABLE ROW LEVEL SECURITY")
        assert.match(yield* flipped(PostgresRights.check(rights)), /row level security of table event hides rows/)
      }).pipe(Effect.provide(Layer.merge(all(app.url), NodeContext.layer)))
    }))

  it.scopedLive("missing tables: the error names the role without rights, and a search_path that hides them", () =>
    Effect.gen(function*() {
      const empty = yield* PgTest.freshDatabase
      const refusal = (url: string) =>
        Migrations.migrate(migrations).pipe(
          Effect.flip,
          Effect.map(({ message }) => message),
          Effect.provide(Layer.merge(on(url), NodeContext.layer))
        )
      const run = (url: string, statement: string) =>
        Effect.provide(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)), on(url))
      yield* run(empty, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
      const app = yield* role(empty)
      assert.include(
        yield* refusal(app.url),
        `the database refuses: role ${app.name} lacks CREATE on schema public, where tables are missing: ` +
          `GRANT CREATE ON SCHEMA public TO ${app.name}`
      )
      const { database, url } = yield* migrated
      yield* run(url, "CREATE SCHEMA elsewhere")
      yield* PgTest.admin(`ALTER DATABASE ${database} SET search_path = elsewhere`)
      assert.match(yield* refusal(url), /leads to schema elsewhere, and the tables are in schema public/)
      // where the URL says so, it is what is wanted
      const chosen = `${url}?options=-c%20search_path%3Delsewhere`
      const made = Migrations.migrate(migrations).pipe(Effect.provide(Layer.merge(on(chosen), NodeContext.layer)))
      assert.isNotEmpty(yield* made)
    }))

  it.scopedLive("fewer connections than the pool may open: calls wait, none is refused", () =>
    Effect.gen(function*() {
      const { url } = yield* migrated
      const app = yield* role(url, "CONNECTION LIMIT 3")
      const logged: Array<string> = []
      const logger = Logger.make(({ message }) => void logged.push(String(message)))
      yield* Effect.provide(
        Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql.unsafe(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ${app.name}`)
        ),
        on(url)
      )
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const run = yield* Postgres.runner("9 seconds")
        const ask = run(sql<{ readonly one: number }>`SELECT 1 AS one FROM pg_sleep(${0.03})`)
        for (let round = 0; round < 2; round++) {
          assert.lengthOf(yield* Effect.all(Array.from({ length: 60 }, () => ask), { concurrency: "unbounded" }), 60)
        }
        yield* Effect.repeat(Effect.sync(() => logged.length), { ...soon, until: (count) => count > 0 })
      }).pipe(Effect.provide(Layer.provide(on(app.url, 20), Logger.replace(Logger.defaultLogger, logger))))
      assert.lengthOf(logged, 1)
      assert.match(logged[0]!, /gives this process 3 of 20 connections.*SQLSTATE 53300/)
    }))
})
