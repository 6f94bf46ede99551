import { SqlClient } from "@effect/sql"
import { Effect, Option } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"

/** The actions of operators. */
export type Action =
  | "outbox retry"
  | "outbox skip"
  | "outbox replay"
  | "dead-letters replay"
  | "payment pay"
  | "payment refuse"
  | "inventory write"
  | "recover"

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

/** A change to note: of an order, or of a place on a topic. */
export interface Noted {
  readonly action: Action
  readonly orderId: bigint | undefined
  /** Position of the record that was written. */
  readonly place: string | undefined
  readonly before: object
  readonly after: object
}

/** Reads and writes table `operation`. */
export class Operations extends Effect.Service<Operations>()("payments/Operations", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient

    /**
     * The last `limit` operations, newest first; of one order if it is given; those before the operation `after` if that is given.
     * Fails with `DatabaseUnavailable`.
     */
    const last = (limit: number, orderId: Option.Option<bigint> = Option.none(), after?: string) =>
      sql<Operation>`
        SELECT id, run, at, operator, role, action, reason, order_id, event_id, place, before, after FROM operation
        WHERE ${
        sql.and([
          ...Option.match(orderId, { onNone: () => [], onSome: (id) => [sql`order_id = ${id}::bigint`] }),
          ...(after === undefined ? [] : [sql`operation.id < ${after}::bigint`]),
          sql`true`
        ])
      }
        ORDER BY operation.id DESC LIMIT ${limit}
      `.pipe(Postgres.run("15 seconds"))

    /** Notes a change. Fails with `DatabaseUnavailable`. */
    const note = ({ operator, reason, run }: By, { action, after, before, orderId, place }: Noted) =>
      sql`
        INSERT INTO operation (run, operator, action, reason, order_id, place, before, after)
        VALUES (${run}::uuid, ${operator}, ${action}, ${reason}, ${
        orderId === undefined ? null : String(orderId)
      }::bigint, ${place ?? null}, ${JSON.stringify(before)}::jsonb, ${JSON.stringify(after)}::jsonb)
      `.pipe(Postgres.run("15 seconds"), Effect.asVoid)

    return { last, note } as const
  })
}) {}
