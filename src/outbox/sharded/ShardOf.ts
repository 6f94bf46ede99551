import type { SqlClient } from "@effect/sql"

/** The shard of the order of an event, as an expression over its row. The number of shards is a power of two. */
export const make = (sql: SqlClient.SqlClient) => ({
  /** Among `shards`: written as in the index, so that the planner matches it. */
  shardOf: (shards: number) => sql.literal(`(hashint8(order_id) & ${shards - 1})`),
  /** Among the present number of shards: matches no index, for few events. */
  ofNow: sql.literal("(hashint8(order_id) & (SELECT count(*)::int - 1 FROM outbox_shard))")
})
