import { SqlClient } from "@effect/sql"
import { Effect, Metric } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import { cached } from "../infra/runtime/Cached.js"

/** Counting of waiting and dead events stops here, so that a backlog of any size costs little to measure. */
const countLimit = 1_000_000

const eventsWaiting = Metric.gauge("payments_events_waiting", {
  description: "Events that wait to be published; absent while unknown"
})
const eventsDead = Metric.gauge("payments_events_dead", {
  description: "Events that a broker refused for good; absent while unknown"
})
const oldestWaiting = Metric.gauge("payments_oldest_event_waiting_seconds", {
  description: "Age of the oldest event that waits to be published, 0 when none waits; absent while unknown"
})
const backlogKnown = Metric.gauge("payments_backlog_known", {
  description: "1 when the last measurement of the backlog succeeded, else 0"
})

/** Events that are not published. */
export interface Measured {
  readonly waiting: number
  readonly dead: number
  /** Age of the oldest waiting one in seconds; 0 without any. */
  readonly oldest: number
}

/** Measures how many events wait in the outbox, and how long. */
export class Backlog extends Effect.Service<Backlog>()("payments/Backlog", {
  effect: Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient

    const read = sql<Measured>`
      -- both conditions are those of a partial index: DONE events are never read
      WITH undone AS (
        SELECT status, created_at FROM event WHERE status <> 'DONE' LIMIT ${countLimit}
      )
      SELECT count(*) FILTER (WHERE status = 'WAIT')::float8 AS waiting,
             count(*) FILTER (WHERE status = 'DEAD')::float8 AS dead,
             -- by time, because a sequence may have been set back; by id too, because the count has a limit
             coalesce(greatest(0, extract(epoch FROM clock_timestamp() - least(
               min(created_at) FILTER (WHERE status = 'WAIT'),
               (SELECT created_at FROM event WHERE status = 'WAIT' ORDER BY id LIMIT 1)
             )))::float8, 0) AS oldest
      FROM undone
    `.pipe(Postgres.run("2 seconds"), Effect.withTracerEnabled(false))

    const publish = ({ dead, oldest, waiting }: Measured, known: 0 | 1) =>
      Effect.all([
        Metric.set(eventsWaiting, waiting),
        Metric.set(eventsDead, dead),
        Metric.set(oldestWaiting, oldest),
        Metric.set(backlogKnown, known)
      ], { discard: true })

    /** The backlog, from a measurement at most 5 seconds old, which also sets the gauges; none while it is not known. */
    const look = yield* read.pipe(
      Effect.map(([measured]) => measured!),
      // an old number would hide the outage; /metrics leaves out NaN
      Effect.tapBoth({
        onFailure: () => publish({ waiting: Number.NaN, dead: Number.NaN, oldest: Number.NaN }, 0),
        onSuccess: (measured) => publish(measured, 1)
      }),
      Effect.option,
      cached("5 seconds")
    )

    /** Sets the gauges. */
    const measure = Effect.asVoid(look)

    return { look, measure } as const
  })
}) {}
