import { SqlClient } from "@effect/sql"
import { Clock, Duration, Effect, Metric, Schedule } from "effect"
import { OrderId } from "../domain/Payment.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Part } from "../infra/runtime/Health.js"
import { problemOf } from "../infra/runtime/Problem.js"
import { Payments } from "./Payments.js"
import { Sequences } from "./Sequences.js"

const expired = Metric.counter("payments_expired_total", {
  description: "Payments that became FAILED because no call settled them within PAYMENT_EXPIRY",
  incremental: true
})

/** The metrics of the expiry. */
export const metrics = [expired]

/** Pause between two rounds. */
const interval = Duration.seconds(10)

/** Payments that one statement reads, and the most that one transaction changes. */
const window = 1_000

/** Pause between two windows: a round over many payments leaves the database to the calls. */
const pause = Duration.millis(20)

/** Time after which a round begins at the first id again, for a payment that got an id below the others. */
const wholeRound = Duration.toMillis("1 day")

interface Seen {
  /** Orders of expired payments, joined by commas; null without any. */
  readonly orders: string | null
  /** Last id; null without any payment. */
  readonly last: string | null
  readonly full: boolean
  /** Whether a payment is `CREATED`. */
  readonly open: boolean
  /** Whether all payments are older than the expiry. */
  readonly old: boolean
}

/** Reads the window of payments after an id, by the primary key: an index on the status would cost each settlement. */
const look = (after: Duration.DurationInput, from: string | undefined) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    sql<Seen>`
      WITH seen AS MATERIALIZED (
        SELECT id, order_id, status = 'CREATED' AS open,
               created_at < clock_timestamp() - make_interval(secs => ${Duration.toSeconds(after)}) AS old
        FROM payment ${from === undefined ? sql`` : sql`WHERE id > ${from}`} ORDER BY id LIMIT ${window}
      )
      SELECT (SELECT string_agg(order_id::text, ',') FROM seen WHERE open AND old) AS orders,
             (SELECT id::text FROM seen ORDER BY seen.id DESC LIMIT 1) AS last,
             count(*) = ${window} AS full, coalesce(bool_or(open), false) AS open, coalesce(bool_and(old), false) AS old
      FROM seen
    `.pipe(Postgres.run("20 seconds"), Effect.map(([row]) => row!)))

/**
 * Expires payments among those after id `from`, window after window. Returns the id up to which all payments are settled for
 * good. When ids rise with time, the round ends at the first window with a payment that is younger than the expiry.
 */
export const round = Effect.fn("Expiry.round")(
  function*(after: Duration.DurationInput, from: string | undefined, idsRise: boolean) {
    const payments = yield* Payments
    const failed: Array<OrderId> = []
    let cursor = from
    let settledTo = from
    let allSettled = true
    while (true) {
      const { full, last, old, open, orders } = yield* look(after, cursor)
      if (orders !== null) {
        const now = yield* payments.expire(orders.split(",").map((order) => OrderId.make(BigInt(order))))
        yield* Metric.incrementBy(expired, now.length)
        failed.push(...now)
      }
      // younger payments may get a lower id than these: their transactions are still open
      allSettled &&= old && !open
      if (allSettled) settledTo = last!
      if (!full || (idsRise && !old)) break
      cursor = last!
      yield* Effect.sleep(pause)
    }
    if (failed.length > 0) {
      yield* Effect.logInfo("payments expired: no call settled them within PAYMENT_EXPIRY").pipe(
        Effect.annotateLogs({ payments: failed.length, first_order_ids: failed.slice(0, 3).map(String).join(",") })
      )
    }
    return settledTo
  }
)

/**
 * Makes the next round, which goes on where the last one ended: it turns `CREATED` payments older than `after` into `FAILED`, with
 * their events. It fails with `DatabaseUnavailable`, and keeps its place then.
 *
 * A round reads the payments after those that are settled for good. An adopted table may have ids that do not rise with time
 * (uuids); then each round reads the whole table.
 */
export const make = (after: Duration.DurationInput) =>
  Effect.sync(() => {
    let from: string | undefined
    let began: number | undefined
    return Effect.gen(function*() {
      const sequences = yield* (yield* Sequences).check
      const idsRise = sequences.some(({ increment, table }) => table === "payment" && increment > 0n)
      const now = yield* Clock.currentTimeMillis
      if (began === undefined || !idsRise || now - began > wholeRound) {
        from = undefined
        began = now
      }
      from = yield* round(after, from, idsRise)
    })
  })

/** Repeats a round of `make` for ever, after a failure within a second, and reports each to the part. */
export const serve = <E extends { readonly message: string }, R>(
  round: Effect.Effect<void, E, R>,
  part: Pick<Part, "failed" | "working">
): Effect.Effect<never, E, R> =>
  Effect.forever(round.pipe(
    Effect.tapError((error) => Effect.sync(() => part.failed(problemOf(error, "postgres")))),
    Effect.retry(Schedule.spaced("1 second")),
    Effect.zipRight(Effect.sync(part.working)),
    Effect.zipRight(Effect.sleep(interval))
  ))
