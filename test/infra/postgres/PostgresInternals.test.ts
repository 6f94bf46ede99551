import { assert, it } from "@effect/vitest"
import * as Pg from "pg"
import * as PostgresInternals from "../../../src/infra/postgres/PostgresInternals.js"

it("pg has the private members that the connections use, and a missing one is named", () => {
  const client = new Pg.Client({})
  assert.deepStrictEqual(PostgresInternals.missing(client, Pg.Pool.prototype), [])
  Reflect.deleteProperty(client, "_queryable")
  assert.deepStrictEqual(PostgresInternals.missing(client, {}), ["Client._queryable", "Pool._pulseQueue"])
})
