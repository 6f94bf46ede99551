import * as NodeContext from "@effect/platform-node/NodeContext"
import { Context, Effect, Layer, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import * as Pg from "pg"
import { inject } from "vitest"
import { migrations } from "../../src/cli/Prepare.js"
import * as Migrations from "../../src/infra/postgres/Migrations.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"

/** Runs one statement as the server's administrator, outside of any test's database. */
export const admin = (statement: string) =>
  Effect.promise(async () => {
    const client = new Pg.Client({ connectionString: inject("databaseUrl") })
    await client.connect()
    try {
      return (await client.query(statement)).rows as ReadonlyArray<Record<string, unknown>>
    } finally {
      await client.end()
    }
  })

/** Creates an empty database, and drops it when the scope closes. Returns its URL. */
export const freshDatabase = Effect.gen(function*() {
  const name = `test_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(
    admin(`CREATE DATABASE ${name}`),
    () => admin(`DROP DATABASE ${name} WITH (FORCE)`)
  )
  const url = new URL(inject("databaseUrl"))
  url.pathname = `/${name}`
  return url.href
})

export class DatabaseUrl extends Context.Tag("test/DatabaseUrl")<DatabaseUrl, string>() {}

/** A database without tables, and connections to it. */
export const layerEmpty = Layer.unwrapScoped(
  Effect.map(freshDatabase, (url) =>
    Layer.merge(
      Layer.succeed(DatabaseUrl, url),
      Postgres.layer({ url: Redacted.make(url), maxConnections: 20 })
    ))
)

/** A migrated database, and connections to it. */
export const layer = Layer.effectDiscard(Migrations.migrate(migrations)).pipe(
  Layer.provide(NodeContext.layer),
  Layer.provideMerge(layerEmpty),
  Layer.orDie
)
