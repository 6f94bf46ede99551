import { SqlClient } from "@effect/sql"
import { Effect, Option } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"

/** The actions of operators. */
export type Action = "outbox retry" | "outbox skip" | "outbox replay" | "dead-letters replay" | "recover"

/** The author of a change: stored with each row of table `operation`. */
export interface By {
  /** UUID of the command or request. */
  readonly run: string
  /** Name of the person. */
  readonly operator: string
  readonly reason: string
}

/** A row of table `operation`: one event or dead letter that an operator changed. */
export interface Operation extends By {
  readonly id: string
  readonly at: Date
  /** Role of the database session. */
  readonly role: string
  readonly action: Action
  readonly order_id: string | null
  readonly event_id: string | null
  /** Position of a dead letter. */
  readonly place: string | null
  readonly before: unknown
  readonly after: unknown
}

/** Reads table `operation`. */
export class Operations extends Effect.Service<Operations>()("payments/Operations", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient

    /** The last `limit` operations, newest first; of one order if it is given. Fails with `DatabaseUnavailable`. */
    const last = (limit: number, orderId: Option.Option<bigint> = Option.none()) =>
      sql<Operation>`
        SELECT id, run, at, operator, role, action, reason, order_id, event_id, place, before, after FROM operation
        ${Option.match(orderId, { onNone: () => sql``, onSome: (id) => sql`WHERE order_id = ${id}::bigint` })}
        ORDER BY operation.id DESC LIMIT ${limit}
      `.pipe(Postgres.run("15 seconds"))

    return { last } as const
  })
}) {}
