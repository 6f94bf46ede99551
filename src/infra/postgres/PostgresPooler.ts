import type { SqlConnection } from "@effect/sql"
import { SqlClient, SqlError } from "@effect/sql"
import { Effect, Option } from "effect"
import { DatabaseUnavailable } from "./Postgres.js"
import { PostgresRefusal, stateOf } from "./PostgresFault.js"
import { PostgresPool } from "./PostgresStatement.js"

const reason = "a pooler in transaction mode (pool_mode=transaction) is between this service and the database. " +
  "This service needs its own sessions for prepared statements, settings and notifications: " +
  "use pool_mode=session, or the address of the server"

/** Number of checks: one may miss the sharing when many other clients use the pooler. */
const checks = 5

const serverProcess = (connection: SqlConnection.Connection) =>
  Effect.map(
    connection.execute("SELECT pg_backend_pid() AS pid", [], undefined),
    ([row]) => (row as { pid: number }).pid
  )

/** True when two connections share a session of the server, or one connection changes between sessions. */
const shares = Effect.fnUntraced(function*(one: SqlConnection.Connection, other: SqlConnection.Connection) {
  const first = yield* serverProcess(one)
  const begun = yield* Effect.either(other.execute("BEGIN", [], undefined))
  // a pooler in statement mode refuses BEGIN
  if (begun._tag === "Left") return stateOf(begun.left.cause) === "08P01"
  const second = yield* serverProcess(other)
  // a pooler with a single connection makes this wait for the other transaction
  const third = yield* Effect.timeoutOption(serverProcess(one), "1 second")
  yield* other.execute("ROLLBACK", [], undefined)
  return second === first || !Option.contains(third, first)
})

/**
 * Fails with a `DatabaseUnavailable` that is `refused` when a pooler in transaction mode is between. Costs nothing without a
 * pooler: the process number of the server then equals the one in the start-up message.
 */
export const check = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const pool = yield* PostgresPool
  const one = yield* sql.reserve
  if (!pool.pooled) return
  const other = yield* sql.reserve
  for (let n = 0; n < checks; n++) {
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
