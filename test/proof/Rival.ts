import { Effect } from "effect"
import * as Pg from "pg"

/** A session of somebody else's in the database, ended with the scope. */
export const make = Effect.fnUntraced(function*(url: string) {
  const client = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Pg.Client({ connectionString: url }).on("error", () => {})
      await client.connect()
      return client
    }),
    (client) => Effect.promise(() => client.end())
  )
  return (statement: string) => Effect.promise(() => client.query(statement))
})
