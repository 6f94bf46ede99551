import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as PostgresTemplate from "../../../src/infra/postgres/PostgresTemplate.js"
import * as PgTest from "../../harness/PgTest.js"

layer(PgTest.layer, { excludeTestServices: true })("PostgresTemplate", (it) => {
  it.effect("compiles once and takes new values at each use; other values stay", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      let written = 0
      const statement = PostgresTemplate.make<object, { readonly left: bigint; readonly right: string | null }>(
        sql,
        ({ left, right }) => {
          written++
          return sql`SELECT ${left}::bigint + ${40}::bigint AS sum, ${right}::text AS text, ${left}::text AS again`
        }
      )
      assert.deepStrictEqual(yield* statement({ left: 2n, right: "two" }), [{ sum: "42", text: "two", again: "2" }])
      assert.deepStrictEqual(yield* sql.withTransaction(statement({ left: 3n, right: null })), [
        { sum: "43", text: null, again: "3" }
      ])
      assert.strictEqual(written, 1)
    }))
})
