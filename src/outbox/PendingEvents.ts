import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as Turn from "./Turn.js"

/** An event of an order that its topic does not have yet. */
export interface PendingEvent {
  readonly id: string
  /** The status in its body. */
  readonly says: string
  /** The broker refused it for good: it waits for an operator. */
  readonly dead: boolean
  readonly attempts: number
  readonly last_error: string | null
}

/** Returns a read of the events of an order that are not published, in their order. It fails with `DatabaseUnavailable`. */
export const make = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const run = yield* Postgres.runner("4 seconds")
  return (orderId: bigint) =>
    sql<PendingEvent>`
      SELECT id, substring(payload FROM '"status":"([A-Z]+)"') AS says, status = 'DEAD' AS dead, attempts, last_error FROM event
      WHERE order_id = ${orderId}::bigint AND status <> 'DONE' ORDER BY ${sql.literal(Turn.terminal("event"))}, event.id
    `.pipe(run)
})
