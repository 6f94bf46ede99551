import type { SqlClient } from "@effect/sql"

/**
 * Whether an event waits behind another one of its order, as conditions on rows of table `event`.
 *
 * The place of an event in the life of its order is told by its body: `CREATED` comes first. It is not told by its id,
 * because a sequence may be set back: by a restore, by logical replication, or by hand. Ids only decide between two rows
 * that say the same of one order; the service writes no such rows. The body cannot change, and rows of older versions and
 * adopted rows have it too. A column would have to be filled for them, and an index over the place costs more than it
 * spares: the index on the order finds at most the few events of that order that are not `DONE`.
 */
export const make = (sql: SqlClient.SqlClient) => {
  /** False for the first event of an order, true for its terminal one. No other value of a body is this text. */
  const terminal = (row: string) => `(${row}.payload NOT LIKE '%"CREATED"%')`
  return {
    /** No event has to go before `candidate`: none of its order that is not `DONE` comes earlier. */
    isNext: sql.literal(`
      NOT EXISTS (
        SELECT FROM event AS earlier
        WHERE earlier.order_id = candidate.order_id AND earlier.status <> 'DONE'
          -- first, because it is cheap: nearly always there is only the candidate itself
          AND earlier.id <> candidate.id
          AND (${terminal("earlier")}, earlier.id) < (${terminal("candidate")}, candidate.id)
        OFFSET 0 -- keeps it one look into the index for each candidate, never a join over all that wait
      )
    `)
  } as const
}
