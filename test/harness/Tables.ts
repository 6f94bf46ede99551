import { Effect } from "effect"
import * as Pg from "pg"

export interface PaymentRow {
  readonly order_id: string
  readonly status: string
}

export interface EventRow {
  readonly id: string
  readonly order_id: string
  readonly status: string
  readonly payload: string
  readonly traceparent: string | null
  readonly lease_token: string | null
}

/** A connection to the database, independent of the project's own, for the life of the scope. */
export const make = Effect.fnUntraced(function*(url: string) {
  const pool = yield* Effect.acquireRelease(
    Effect.sync(() => new Pg.Pool({ connectionString: url, max: 2 }).on("error", () => {})),
    (pool) => Effect.promise(() => pool.end())
  )
  const query = <Row>(text: string, values: ReadonlyArray<unknown> = []) =>
    Effect.map(Effect.promise(() => pool.query(text, [...values])), (result) => result.rows as ReadonlyArray<Row>)

  return {
    query,
    count: (what: string) =>
      Effect.map(query<{ readonly n: number }>(`SELECT count(*)::int AS n FROM ${what}`), ([row]) => row!.n),
    payments: (orderId: bigint | number) =>
      query<PaymentRow>("SELECT order_id, status FROM payment WHERE order_id = $1", [String(orderId)]),
    events: (orderId: bigint | number) =>
      query<EventRow>("SELECT * FROM event WHERE order_id = $1 ORDER BY id", [String(orderId)])
  } as const
})

export type Tables = Effect.Effect.Success<ReturnType<typeof make>>
