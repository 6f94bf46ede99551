import { SqlClient } from "@effect/sql"
import { Effect } from "effect"
import * as Postgres from "../../infra/postgres/Postgres.js"
import { BrokerContact } from "../BrokerContact.js"

/** The most events that a look reads. Relays publish in the order of the ids, so the first ones show it. */
const first = 10_000

/**
 * Returns an effect: whether another relay has published an event that was written after the brokers had gone for this one. While
 * they are away for all relays, an event without an answer stays with the producer that may have sent it: another one would
 * double it.
 */
export const goOn = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const run = yield* Postgres.runner("5 seconds")
  const { isLost } = yield* BrokerContact
  /** The last event when the brokers were away at first. Undefined while they answer. */
  let last: string | undefined

  const look = Effect.gen(function*() {
    if (last === undefined) {
      const [row] = yield* run(sql<{ readonly id: string }>`SELECT coalesce(max(id), 0)::text AS id FROM event`)
      last = row!.id
      return false
    }
    const [row] = yield* run(sql<{ readonly published: boolean }>`
      SELECT EXISTS (
        SELECT FROM (SELECT status FROM event WHERE id > ${last}::bigint ORDER BY id LIMIT ${first}) AS written
        WHERE status = 'DONE'
      ) AS published
    `)
    return row!.published
  })

  return Effect.gen(function*() {
    if (yield* isLost) return yield* look
    last = undefined
    return false
  }).pipe(
    Effect.catchTag(
      "DatabaseUnavailable",
      (error) => Effect.as(Effect.logDebug("cannot look for events of other relays", error), false)
    ),
    Effect.withTracerEnabled(false)
  )
})
