import { SqlClient } from "@effect/sql"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Postgres from "../../src/infra/Postgres.js"
import * as PgTest from "../utils/PgTest.js"

const run = Postgres.run("5 seconds")

/** With a table of three rows, in a database of its own. */
const withThings = <A, E>(test: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
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
  it.effect("prepares a statement with parameters once on a connection, and plans it once", () =>
    withThings((sql) =>
      sql.withTransaction(Effect.gen(function*() {
        for (const id of [1, 2, 3, 1, 2, 3, 1]) assert.deepStrictEqual(yield* read(sql, id), [{ id }])
        assert.deepStrictEqual(
          yield* sql`SELECT statement, generic_plans::int, custom_plans::int FROM pg_prepared_statements`,
          [{ statement: "SELECT * FROM thing WHERE id = $1", generic_plans: 7, custom_plans: 0 }]
        )
      }))
    ))

  it.effect("a statement that failed before it was prepared is prepared at its next use", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        const other = sql<Record<string, unknown>>`SELECT * FROM other WHERE id = ${1}`
        assert.propertyVal(yield* Effect.flip(other), "_tag", "SqlError")
        yield* sql`ALTER TABLE thing RENAME TO other`
        assert.deepStrictEqual(yield* other, [{ id: 1 }])
      })
    ))

  it.live("statements that a migration has outdated on every connection work at once", () =>
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

  it.live("a transaction that meets an outdated statement is run again, whole", () =>
    withThings((sql) =>
      Effect.gen(function*() {
        yield* warm(sql)
        yield* sql`ALTER TABLE thing ADD COLUMN name text`
        yield* run(sql.withTransaction(Effect.zipRight(sql`INSERT INTO thing (id) VALUES (${4})`, read(sql, 1))))
        assert.deepStrictEqual(yield* read(sql, 4), [{ id: 4, name: null }])
      })
    ))

  it.live("statements that the server has dropped are prepared again", () =>
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
})
