import type { SqlConnection } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import { Effect, Option } from "effect"
import { DatabaseUnavailable } from "./Postgres.js"
import { PostgresRefusal, stateOf } from "./PostgresFault.js"
import { PostgresPool } from "./PostgresStatement.js"

const reason =
  "a pooler that shares connections between transactions (pool_mode=transaction) stands before the database. " +
  "This service needs sessions of its own, for statements that are prepared by name, settings and notifications: " +
  "use pool_mode=session, or the server's own address"

/** A single look may miss it, where many others use the pooler, too. */
const looks = 5

const server = (connection: SqlConnection.Connection) =>
  Effect.map(
    connection.execute("SELECT pg_backend_pid() AS pid", [], undefined),
    ([row]) => (row as { pid: number }).pid
  )

/** Whether two connections share one of the server, or one changes between two. */
const shares = Effect.fnUntraced(function*(one: SqlConnection.Connection, other: SqlConnection.Connection) {
  const first = yield* server(one)
  const begun = yield* Effect.either(other.execute("BEGIN", [], undefined))
  // a pooler that shares them between statements takes no BEGIN
  if (begun._tag === "Left") return stateOf(begun.left.cause) === "08P01"
  const second = yield* server(other)
  // where the pooler has one connection in all, this waits for the other transaction
  const third = yield* Effect.timeoutOption(server(one), "1 second")
  yield* other.execute("ROLLBACK", [], undefined)
  return second === first || !Option.contains(third, first)
})

/**
 * Fails, `refused`, where a pooler gives each transaction another connection of the server. Costs nothing where no pooler
 * is between: the server then has the process number that the start of the connection has named.
 */
export const check = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const pool = yield* PostgresPool
  const one = yield* sql.reserve
  if (!pool.pooled) return
  const other = yield* sql.reserve
  for (let look = 0; look < looks; look++) {
    if (yield* shares(one, other)) {
      return yield* new DatabaseUnavailable({ cause: new PostgresRefusal(reason) })
    }
  }
}).pipe(
  Effect.scoped,
  Effect.catchIf(
    (error) => error instanceof SqlError.SqlError,
    (error) => new DatabaseUnavailable({ cause: error.cause })
  )
)
