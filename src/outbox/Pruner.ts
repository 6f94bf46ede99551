import { SqlClient } from "@effect/sql"
import { Duration, Effect, Metric } from "effect"
import * as Postgres from "../infra/postgres/Postgres.js"

const pruned = Metric.counter("payments_events_pruned_total", {
  description: "DONE events deleted after their retention",
  incremental: true
})

export interface PrunerOptions {
  readonly retention: Duration.DurationInput
  /** Pause between two rounds. Default: 1 minute. */
  readonly interval?: Duration.DurationInput
}

/** Events that one statement looks at: it stays short, and locks little. */
const window = 1_000

/**
 * Deletes what is `DONE` and old among the `window` events after `cursor`, and answers the next cursor. Ids rise with
 * time: the round ends at the first window whose last event is too young to be deleted.
 */
export const prune = Effect.fn("Pruner.prune")(function*(retention: Duration.DurationInput, cursor: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly next: string | null; readonly deleted: number }>`
    WITH seen AS MATERIALIZED (
      SELECT id, status, created_at, done_at FROM event WHERE id > ${cursor}::bigint ORDER BY id LIMIT ${window}
    ), old AS (
      DELETE FROM event
      -- an array, and no join: how many were seen the planner cannot know
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

/** Deletes `DONE` events older than the retention, and never anything else. Never ends by itself. */
export const serve = (options: PrunerOptions) =>
  Effect.gen(function*() {
    let cursor: string | null = "0"
    while (cursor !== null) cursor = (yield* prune(options.retention, cursor)).next
  }).pipe(
    Effect.zipRight(Effect.sleep(options.interval ?? "1 minute")),
    Effect.forever
  )
