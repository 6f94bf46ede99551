import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { Context, Effect, Layer, Redacted } from "effect"
import { randomUUID } from "node:crypto"
import { readFileSync } from "node:fs"
import * as Pg from "pg"
import { inject } from "vitest"
import { migrations } from "../../src/cli/Prepare.js"
import * as Migrations from "../../src/infra/postgres/Migrations.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"

const roles = readFileSync(new URL("../../sql/roles.sql", import.meta.url), "utf8")

/** The administrator's URL of a database. */
const url = (database?: string) => {
  const url = new URL(inject("databaseUrl"))
  if (database !== undefined) url.pathname = `/${database}`
  return url.href
}

const withClient = async <A>(url: string, use: (client: Pg.Client) => Promise<A>) => {
  const client = new Pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** Runs one statement as the server's administrator, outside of any test's database. */
export const admin = (statement: string) =>
  Effect.promise(() =>
    withClient(url(), async (client) => (await client.query(statement)).rows as ReadonlyArray<Record<string, unknown>>)
  )

const database = Effect.fnUntraced(function*(from: string) {
  const name = `test_${randomUUID().replaceAll("-", "")}`
  yield* Effect.acquireRelease(
    admin(`CREATE DATABASE ${name} ${from}`),
    () => admin(`DROP DATABASE ${name} WITH (FORCE)`)
  )
  return url(name)
})

/** Creates an empty database, and drops it when the scope closes. Returns its URL. */
export const freshDatabase = Effect.suspend(() => database(""))

/** The rights of `sql/roles.sql` in this database, for an administrator's URL. */
export const grantRoles = (databaseUrl: string) =>
  Effect.promise(() => withClient(databaseUrl, (client) => client.query(roles)))

/** The same database with the URL of a role of `sql/roles.sql`. */
export const as = (role: "owner" | "service" | "audit", databaseUrl: string) => {
  const url = new URL(databaseUrl)
  url.username = `payments_${role}`
  return url.href
}

const template = "payments_template"

/** More than the default of the service: four workers keep the machine busy. */
const connectTimeoutMillis = 6_000

/**
 * Makes the template once a server: the owner migrates it, and `sql/roles.sql` gives the other roles their rights. All
 * roles have the password of the administrator.
 */
const makeTemplate = Effect.promise(() =>
  withClient(url(), async (client) => {
    const exists = async () =>
      (await client.query("SELECT FROM pg_database WHERE datname = $1", [template])).rowCount !== 0
    if (await exists()) return
    await client.query("SELECT pg_advisory_lock(8113903)")
    if (await exists()) return
    const building = `${template}_new`
    await client.query(`DROP DATABASE IF EXISTS ${building}`)
    await client.query(`CREATE DATABASE ${building}`)
    await withClient(url(building), async (client) => {
      await client.query(roles)
      for (const role of ["owner", "service", "audit"]) {
        await client.query(`ALTER ROLE payments_${role} PASSWORD '${new URL(url()).password}'`)
      }
      await Migrations.migrate(migrations).pipe(
        Effect.provide(Layer.merge(
          NodeContext.layer,
          Postgres.layer({ url: Redacted.make(as("owner", url(building))), maxConnections: 1, connectTimeoutMillis })
        )),
        Effect.runPromise
      )
      await client.query(roles)
    })
    await client.query(`ALTER DATABASE ${building} RENAME TO ${template}`)
  })
)

/** Creates a migrated database, and drops it when the scope closes. Returns the administrator's URL. */
export const migratedDatabase = Effect.zipRight(makeTemplate, Effect.suspend(() => database(`TEMPLATE ${template}`)))

export class DatabaseUrl extends Context.Tag("test/DatabaseUrl")<DatabaseUrl, string>() {}

/** A database without tables, and connections to it. */
export const layerEmpty = Layer.unwrapScoped(
  Effect.map(freshDatabase, (url) =>
    Layer.merge(
      Layer.succeed(DatabaseUrl, url),
      Postgres.layer({ url: Redacted.make(url), maxConnections: 20, connectTimeoutMillis })
    ))
)

/** A migrated database, and connections to it. */
export const layer = Layer.unwrapScoped(
  Effect.map(migratedDatabase, (url) =>
    Layer.merge(
      Layer.succeed(DatabaseUrl, url),
      Postgres.layer({ url: Redacted.make(url), maxConnections: 20, connectTimeoutMillis })
    ))
)

/** Connections of the administrator, beside those of the service. */
export class Administrator extends Context.Tag("test/Administrator")<Administrator, SqlClient.SqlClient>() {}

/** Runs statements that the service may not run, such as those that empty a table. */
export const asAdministrator = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Administrator, (sql) => Effect.provideService(effect, SqlClient.SqlClient, sql))

/** As `layer`, for tests that use `asAdministrator`. */
export const layerOwner = Layer.provideMerge(Layer.effect(Administrator, SqlClient.SqlClient), layer)

/** A migrated database, and connections with the rights of the service alone (`sql/roles.sql`). */
export const layerService = Layer.unwrapScoped(
  Effect.map(migratedDatabase, (url) =>
    Layer.mergeAll(
      Layer.succeed(DatabaseUrl, url),
      Layer.effect(Administrator, SqlClient.SqlClient).pipe(
        Layer.provide(Postgres.layer({ url: Redacted.make(url), maxConnections: 4, connectTimeoutMillis }))
      ),
      Layer.fresh(Postgres.layer({ url: Redacted.make(as("service", url)), maxConnections: 20, connectTimeoutMillis }))
    ))
)
