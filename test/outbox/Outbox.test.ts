import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as PgTest from "../utils/PgTest.js"

layer(PgTest.layer, { timeout: "30 seconds", excludeTestServices: true })("Outbox", (it) => {
  it.effect("smoke", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT * FROM event`, 0)
    }))
})
