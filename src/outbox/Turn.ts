import type { SqlClient } from "@effect/sql"

/** False for the first event of an order, true for its terminal one. No other value of a body is this text. */
export const terminal = (row: string) => `(${row}.payload NOT LIKE '%"CREATED"%')`

/**
 * Whether an event waits behind another one of its order, as conditions on rows of table `event`.
 *
 * The body of an event defines its place in the life of its order: `CREATED` comes first. The id does not, because a
 * sequence may be set back: by a restore, by logical replication, or by hand. Ids only decide between two rows of one order
 * with the same status; the service writes no such rows. The body cannot change, and adopted rows and rows of older versions
 * have it too. A column would have to be filled for them. An index over the place costs more than it saves: the index on the
 * order finds at most the few events of that order that are not `DONE`.
 */
export const make = (sql: SqlClient.SqlClient) => {
  /** No row `earlier` of the order, other than the candidate, meets the condition and is not `DONE`. */
  const none = (condition: string) => `
    NOT EXISTS (
      SELECT FROM event AS earlier
      WHERE earlier.order_id = candidate.order_id AND earlier.status <> 'DONE' AND ${condition}
      OFFSET 0 -- keeps it one index probe a candidate, never a join over all waiting events
    )
  `
  return {
    /** No event has to go before `candidate`: none of its order that is not `DONE` comes earlier. */
    isNext: sql.literal(`
      CASE WHEN ${terminal("candidate")}
        THEN ${none(`earlier.id <> candidate.id AND (earlier.id < candidate.id OR NOT ${terminal("earlier")})`)}
        -- the bound on ids is part of the index condition: usually the probe finds no row
        ELSE ${none(`earlier.id < candidate.id AND NOT ${terminal("earlier")}`)}
      END
    `)
  } as const
}
