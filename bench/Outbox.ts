import type { World } from "./World.js"

/** Number of inserted events, by the sequence, because counting the table loads the database. */
export const inserted = async (world: World) => {
  const [row] = await world.query<{ readonly n: string }>(
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM event_id_seq"
  )
  return Number(row!.n)
}

/** True when no event waits. Checks the last event first, because the full check reads all sent events. */
export const isDrained = async (world: World) => {
  const [row] = await world.query<{ readonly waits: boolean }>(`
    SELECT CASE (SELECT status FROM event ORDER BY id DESC LIMIT 1)
      WHEN 'WAIT' THEN true
      ELSE EXISTS (SELECT FROM event WHERE status = 'WAIT')
    END AS waits
  `)
  return !row!.waits
}

/** Time of the last mark, in microseconds of the database's clock. */
export const lastDone = async (world: World) => {
  const [row] = await world.query<{ readonly at: number }>(
    "SELECT extract(epoch FROM max(done_at))::float8 * 1e6 AS at FROM event"
  )
  return row!.at
}
