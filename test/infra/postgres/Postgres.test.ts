import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Redacted, Schedule } from "effect"
import * as Postgres from "../../../src/infra/postgres/Postgres.js"
import { PostgresPool } from "../../../src/infra/postgres/PostgresStatement.js"
import { until } from "../../harness/Eventually.js"
import * as PgTest from "../../harness/PgTest.js"
import * as Proxy from "../../harness/Proxy.js"

const run = Postgres.run("5 seconds")

/** Runs a test with a table of three rows in its own database. */
const withThings = <A, E, R>(test: (sql: SqlClient.SqlClient) => Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE thing (id int PRIMARY KEY); INSERT INTO thing VALUES (1), (2), (3)`
    return yield* test(sql)
  }).pipe(Effect.provide(PgTest.layerEmpty))

/** Three connections that have the statement of `read` prepared. */
const warm = (sql: SqlClient.SqlClient) =>
  Effect.replicateEffect(sql.reserve, 3).pipe(
    Effect.flatMap(Effect.forEach((_) => _.execute("SELECT * FROM thing WHERE id = $1", [1], undefined))),
    Effect.scoped
  )

const read = (sql: SqlClient.SqlClient, id: number) =>
  sql<Record<string, unknown>>`SELECT * FROM thing WHERE id = ${id}`

const readThree = (sql: SqlClient.SqlClient) =>
  Effect.forEach([1, 2, 3], (id) => run(read(sql, id)), { concurrency: "unbounded" })

describe("Postgres", () => {
  it.effect("prepares and plans a statement with parameters once a connection", () =>
    withThings((sql) =>
      sql.withTransaction(Effect.gen(function*() {
        for (const id of [1, 2, 3, 1, 2, 3, 1]) assert.deepStrictEqual(yield* read(sql, id), [{ id }])
        assert.deepStrictEqual(
          yield* sql`SELECT statement, generic_plans::int, custom_plans::int FROM pg_prepared_statements`,
          [{ statement: "SELECT * FROM thing WHERE id = $1", generic_plans: 7, custom_plans: 0 }]
        )
      }))
    ))

  it.effect("prepares a statement at its next use after a failed preparation", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        const other = sql<Record<string, unknown>>`SELECT * FROM other WHERE id = ${1}`
        assert.propertyVal(yield* Effect.flip(other), "_tag", "SqlError")
        yield* sql`ALTER TABLE thing RENAME TO other`
        assert.deepStrictEqual(yield* other, [{ id: 1 }])
      })
    ))

  it.live("statements that a migration has outdated work at once on every connection", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        yield* warm(sql)
        yield* sql`ALTER TABLE thing ADD COLUMN name text DEFAULT 'new'`
        assert.deepStrictEqual(
          yield* readThree(sql),
          [1, 2, 3].map((id) => [{ id, name: "new" }])
        )
      })
    ))

  it.live("repeats the whole transaction after an outdated statement", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        yield* warm(sql)
        yield* sql`ALTER TABLE thing ADD COLUMN name text`
        yield* run(sql.withTransaction(Effect.zipRight(sql`INSERT INTO thing (id) VALUES (${4})`, read(sql, 1))))
        assert.deepStrictEqual(yield* read(sql, 4), [{ id: 4, name: null }])
      })
    ))

  it.live("prepares statements again that the server has dropped", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        yield* Effect.replicateEffect(sql.reserve, 3).pipe(
          Effect.flatMap(Effect.forEach((_) =>
            Effect.zipRight(
              _.execute("SELECT * FROM thing WHERE id = $1", [1], undefined),
              _.execute("DEALLOCATE ALL", [], undefined)
            )
          )),
          Effect.scoped
        )
        assert.deepStrictEqual(yield* readThree(sql), [1, 2, 3].map((id) => [{ id }]))
      })
    ))

  it.live("a statement directly on the pool behaves as in @effect/sql", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        const alone = yield* Postgres.runner("5 seconds")
        yield* warm(sql)
        yield* sql`ALTER TABLE thing ADD COLUMN name text`
        const rows = yield* Effect.forEach([1, 2, 3], (id) => alone(read(sql, id)), { concurrency: "unbounded" })
        assert.deepStrictEqual(rows, [1, 2, 3].map((id) => [{ id, name: null }]))
        const bug = yield* Effect.exit(alone(sql`SELECT nothing FROM thing`))
        assert.isTrue(Exit.isFailure(bug) && Cause.isDie(bug.cause))
      })
    ))

  it.effect("a statement inside a transaction joins the transaction", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        const alone = yield* Postgres.runner("5 seconds")
        const insert = alone(sql`INSERT INTO thing VALUES (${4})`)
        yield* insert.pipe(Effect.zipRight(Effect.fail("undone")), sql.withTransaction, Effect.flip)
        assert.deepStrictEqual(yield* read(sql, 4), [])
        yield* sql.withTransaction(insert)
        assert.deepStrictEqual(yield* read(sql, 4), [{ id: 4 }])
      })
    ))

  it.live("cancels a statement at its limit and at an interruption, and frees its connection", () =>
    Effect.gen(function*() {
      const url = yield* PgTest.DatabaseUrl
      const one = Postgres.layer({ url: Redacted.make(url), maxConnections: 2, connectTimeoutMillis: 5_000 })
      const watch = yield* SqlClient.SqlClient
      const running = Effect.map(
        watch`SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60 + %' AND state = 'active' AND pid <> pg_backend_pid()`,
        (rows) => rows.length
      )
      const sleepersAre = (count: number) =>
        running.pipe(
          Effect.repeat({ until: (now) => now === count, schedule: Schedule.spaced("10 millis") }),
          Effect.timeout("20 seconds")
        )
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const sleep = sql`SELECT pg_sleep(60 + ${1}::int)`
        const late = yield* Effect.flip((yield* Postgres.runner("300 millis"))(sleep))
        assert.strictEqual(late.message, "the database is not available: statement took too long")
        yield* sleepersAre(0)

        const patient = yield* Postgres.runner("50 seconds")
        const call = yield* Effect.fork(patient(sleep))
        yield* sleepersAre(1)
        yield* Fiber.interrupt(call)
        yield* sleepersAre(0)
        const both = Effect.all([patient(sql`SELECT 1 AS one`), patient(sql`SELECT 1 AS one`)], { concurrency: 2 })
        assert.deepStrictEqual(yield* both, [[{ one: 1 }], [{ one: 1 }]])
      }).pipe(Effect.provide(one))
    }).pipe(Effect.provide(PgTest.layerEmpty)))

  it.live("retries contention within the limit and not after it", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        yield* sql`
          CREATE SEQUENCE attempt;
          CREATE FUNCTION contend(int) RETURNS int LANGUAGE plpgsql AS $$
            BEGIN
              PERFORM nextval('attempt'), pg_sleep(0.1);
              RAISE EXCEPTION 'somebody else was first' USING ERRCODE = '40001';
            END $$
        `
        const alone = yield* Postgres.runner("400 millis")
        for (const run of [alone, Postgres.run("400 millis")]) {
          yield* sql`ALTER SEQUENCE attempt RESTART`
          const error = yield* Effect.flip(run(sql`SELECT contend(${1})`))
          assert.strictEqual(error._tag, "DatabaseUnavailable")
          const [seen] = yield* sql<{ readonly attempts: number }>`SELECT last_value::int AS attempts FROM attempt`
          const { attempts } = seen!
          // nine without the limit
          assert.isTrue(attempts > 1 && attempts <= 4, `${attempts} attempts`)
        }
      })
    ))

  it.live("a connection that breaks during a cancellation affects no other statement", () =>
    Effect.gen(function*() {
      const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
      yield* Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const [run, runBriefly] = [yield* Postgres.runner("20 seconds"), yield* Postgres.runner("200 millis")]
        yield* run(sql`SELECT 1 AS one`)
        yield* proxy.set("stall")
        yield* Effect.flip(runBriefly(sql`SELECT 2 AS two`))
        const pool = yield* PostgresPool
        const removed = yield* Effect.fork(Effect.async<void>((resume) => {
          pool.once("remove", () => resume(Effect.void))
        }))
        yield* proxy.cut
        // the test runner would report an error without a listener
        yield* Effect.timeout(Fiber.join(removed), "20 seconds")
        yield* proxy.set("pass")
        assert.deepStrictEqual(yield* run(sql`SELECT 3 AS three`), [{ three: 3 }])
      }).pipe(
        Effect.provide(
          Postgres.layer({ url: Redacted.make(proxy.url), maxConnections: 2, connectTimeoutMillis: 10_000 })
        )
      )
    }).pipe(Effect.scoped, Effect.provide(PgTest.layerEmpty)))

  for (const way of ["alone, by the client library", "alone, on the pool", "in a transaction"] as const) {
    it.live(`a cancellation that arrives late does not hit the next statement: ${way}`, () =>
      Effect.gen(function*() {
        const proxy = yield* Proxy.make(yield* PgTest.DatabaseUrl)
        const watch = yield* SqlClient.SqlClient
        const hold = (lock: number) =>
          Effect.tap(watch.reserve, (_) => _.execute("SELECT pg_advisory_lock($1)", [lock], undefined))
        const [first, second] = [yield* hold(1), yield* hold(2)]
        yield* Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const wait = (lock: number) => sql`SELECT pg_advisory_lock(${lock})::text AS got`
          const patient = yield* Postgres.runner("60 seconds")
          yield* patient(sql`SELECT 1 AS one`)
          const giveUp = "500 millis"
          const abandoned = way === "alone, on the pool"
            ? (yield* Postgres.runner(giveUp))(wait(1))
            : Postgres.run(giveUp)(way === "in a transaction" ? sql.withTransaction(wait(1)) : wait(1))
          // the cancellation takes a new connection
          yield* proxy.set("stall new")
          yield* Effect.flip(abandoned)
          yield* until(proxy.accepted, (connections) => connections === 2)
          yield* first.execute("SELECT pg_advisory_unlock(1)", [], undefined)
          const next = yield* Effect.fork(patient(wait(2)))
          const waiting = watch`SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
          yield* until(
            Effect.all([waiting, proxy.accepted]),
            ([rows, connections]) => rows.length === 1 || connections === 3
          )
          yield* proxy.set("pass")
          const cancelled = sql`SELECT 1 AS one`
          yield* Effect.all([patient(cancelled), patient(cancelled)], { concurrency: 2 })
          yield* second.execute("SELECT pg_advisory_unlock(2)", [], undefined)
          assert.deepStrictEqual(yield* Fiber.join(next), [{ got: "" }])
        }).pipe(
          Effect.provide(
            Postgres.layer({ url: Redacted.make(proxy.url), maxConnections: 2, connectTimeoutMillis: 30_000 })
          )
        )
      }).pipe(Effect.scoped, Effect.provide(PgTest.layerEmpty)))
  }
})
