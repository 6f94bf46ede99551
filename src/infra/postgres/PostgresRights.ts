import { SqlClient } from "@effect/sql"
import { Array as Arr, Effect } from "effect"
import * as Postgres from "./Postgres.js"
import { PostgresRefusal } from "./PostgresFault.js"

/** Needed rights by table. */
export type Rights = Readonly<Record<string, ReadonlyArray<"SELECT" | "INSERT" | "UPDATE" | "DELETE">>>

interface Missing {
  readonly role: string
  readonly name: string
  readonly right: "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "USAGE" | "rows" | "table"
}

const describe = (role: string, missing: ReadonlyArray<Missing>) => {
  const [{ name }] = missing as [Missing]
  const rights = missing.map(({ right }) => right)
  if (rights.includes("table")) return `role ${role} finds no table ${name} on its search_path`
  if (rights.includes("rows")) {
    return `row level security of table ${name} hides rows from role ${role}, which lacks BYPASSRLS`
  }
  const list = rights.join(", ")
  const kind = rights.includes("USAGE") ? "sequence" : "table"
  return `role ${role} lacks ${list} on ${kind} ${name}: GRANT ${list} ON ${
    kind === "table" ? "" : "SEQUENCE "
  }${name} TO ${role}`
}

/**
 * Checks that a role has these rights; by default the role of the connections. Fails with a `DatabaseUnavailable` that is `refused`: it names all missing rights and
 * the statements that grant them.
 */
export const check = (rights: Rights, role?: string) => {
  const needs = Object.entries(rights).flatMap(([table, all]) => all.map((right) => [table, right] as const))
  return Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const of = sql`coalesce(${role ?? null}::name, current_user)`
    if (role !== undefined) {
      const [known] = yield* sql`SELECT FROM pg_roles WHERE rolname = ${role}`.pipe(Postgres.run("2 seconds"))
      if (known === undefined) {
        return yield* new Postgres.DatabaseUnavailable({ cause: new PostgresRefusal(`there is no role ${role}`) })
      }
    }
    const missing = yield* sql<Missing>`
      WITH need AS MATERIALIZED (
        SELECT name, "right", to_regclass(name) AS found
        FROM unnest(${needs.map(([name]) => name)}::text[], ${
      needs.map(([, right]) => right)
    }::text[]) AS t (name, "right")
      )
      SELECT ${of} AS role, name, "right" FROM need WHERE NOT has_table_privilege(${of}, found, "right")
      UNION ALL SELECT DISTINCT ${of}, name, 'table' FROM need WHERE found IS NULL
      UNION ALL SELECT DISTINCT ${of}, name, 'rows' FROM need WHERE row_security_active(found) AND ${of} = current_user
      UNION ALL
      -- a column default reads its sequence; an identity column needs no right on its sequence
      SELECT ${of}, sequence, 'USAGE' FROM need
      JOIN pg_attribute ON attrelid = found AND attname = 'id' AND attidentity = '', pg_get_serial_sequence(name, 'id') AS sequence
      WHERE "right" = 'INSERT' AND NOT has_sequence_privilege(${of}, sequence, 'USAGE')
    `.pipe(Postgres.run("2 seconds"))
    if (missing.length === 0) return
    const reasons = Object.values(Arr.groupBy(missing, ({ name }) => name)).map((of) => describe(of[0].role, of))
    return yield* new Postgres.DatabaseUnavailable({ cause: new PostgresRefusal(reasons.join("; ")) })
  })
}
