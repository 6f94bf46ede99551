import type { World } from "./World.js"

/** Events that were ever inserted, by the sequence: counting the table would be work for the database. */
export const inserted = async (world: World) => {
  const [row] = await world.query<{ readonly n: string }>(
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM event_id_seq"
  )
  return Number(row!.n)
}

/** Whether nothing waits. Looks at the last event first: to find that none is left reads all that were sent. */
export const isDrained = async (world: World) => {
  const [row] = await world.query<{ readonly waits: boolean }>(`
    SELECT CASE (SELECT status FROM event ORDER BY id DESC LIMIT 1)
      WHEN 'WAIT' THEN true
      ELSE EXISTS (SELECT FROM event WHERE status = 'WAIT')
    END AS waits
  `)
  return !row!.waits
}

/** When the last event was marked, in microseconds by the database's clock. */
export const lastDone = async (world: World) => {
  const [row] = await world.query<{ readonly at: number }>(
    "SELECT extract(epoch FROM max(done_at))::float8 * 1e6 AS at FROM event"
  )
  return row!.at
}
