import { SqlClient } from "@effect/sql"
import { Duration, Effect, Metric, Schedule } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Part } from "../infra/runtime/Health.js"
import { problemOf } from "../infra/runtime/Problem.js"

const pruned = Metric.counter("payments_events_pruned_total", {
  description: "DONE events deleted after their retention",
  incremental: true
})

/** The metrics of the pruner. */
export const metrics = [pruned]

export interface PrunerOptions {
  /** Gets whether the pruner works. */
  readonly part: Part
  readonly retention: Duration.DurationInput
  /** Pause between two rounds. Default: 1 minute. */
  readonly interval?: Duration.DurationInput
}

/** Events that one statement reads: it stays short, and locks few rows. */
const window = 1_000

/**
 * Deletes the old `DONE` events among the `window` events after id `cursor`. Returns the next cursor; null at the end of a round,
 * which is the first window whose youngest event is too young to be deleted: ids rise with time.
 */
export const prune = Effect.fn("Pruner.prune")(function*(retention: Duration.DurationInput, cursor: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly next: string | null; readonly deleted: number }>`
    WITH seen AS MATERIALIZED (
      SELECT id, status, created_at, done_at FROM event WHERE id > ${cursor}::bigint ORDER BY id LIMIT ${window}
    ), old AS (
      DELETE FROM event
      -- an array instead of a join: the planner cannot estimate how many rows were seen
      WHERE id = ANY(ARRAY(SELECT id FROM seen)) AND status = 'DONE'
        AND done_at < clock_timestamp() - make_interval(secs => ${Duration.toSeconds(retention)})
      RETURNING id
    )
    SELECT
      (SELECT max(id) FROM seen
       HAVING count(*) = ${window}
         AND max(created_at) < clock_timestamp() - make_interval(secs => ${Duration.toSeconds(retention)})) AS next,
      (SELECT count(*)::int FROM old) AS deleted
  `.pipe(Postgres.run("30 seconds"))
  yield* Metric.incrementBy(pruned, row!.deleted)
  return row!
})

/** Deletes `DONE` events older than the retention, and no other. Never ends by itself. */
export const serve = (options: PrunerOptions) =>
  Effect.gen(function*() {
    let cursor: string | null = "0"
    while (cursor !== null) cursor = (yield* prune(options.retention, cursor)).next
    options.part.working()
  }).pipe(
    Effect.tapError((error) => Effect.sync(() => options.part.failed(problemOf(error, "postgres")))),
    Effect.retry(Schedule.spaced("1 second")),
    Effect.zipRight(Effect.sleep(options.interval ?? "1 minute")),
    Effect.forever
  )
