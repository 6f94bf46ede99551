import type { SqlClient } from "@effect/sql"

/** The shard of the order of an event, as an expression over its row. The number of shards is a power of two. */
export const make = (sql: SqlClient.SqlClient) => ({
  /** Among so many shards: written as it is in the index, so that it is found there. */
  shardOf: (shards: number) => sql.literal(`(hashint8(order_id) & ${shards - 1})`),
  /** Among as many as there are: by no index, for events that are few. */
  ofNow: sql.literal("(hashint8(order_id) & (SELECT count(*)::int - 1 FROM outbox_shard))")
})
