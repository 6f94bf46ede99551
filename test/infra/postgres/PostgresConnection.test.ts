import { FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Schedule } from "effect"
import * as Postgres from "../../../src/infra/postgres/Postgres.js"
import * as PostgresPooler from "../../../src/infra/postgres/PostgresPooler.js"
import * as Authority from "../../../src/local/Authority.js"
import { freePort } from "../../harness/FreePort.js"
import * as NoOptions from "../../harness/NoOptions.js"
import * as World from "../../harness/World.js"
import * as Rival from "../../proof/Rival.js"

/** A server with TLS and a certificate of an authority of its own. */
const make = Effect.gen(function*() {
  const port = yield* freePort
  yield* World.server("postgres", port)
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped()
  const admin = yield* Rival.make(`postgres://payments:payments@localhost:${port}/payments`)
  const authority = Authority.make("authority")
  const { certificate, key } = authority.issue({ names: ["localhost"] })
  const rootCert = `${folder}/root.crt`
  const stranger = `${folder}/stranger.crt`
  yield* fs.writeFileString(rootCert, authority.certificate)
  yield* fs.writeFileString(stranger, Authority.make("authority").certificate)
  // the server must own the files, so it writes them
  for (const [name, text] of [["server.crt", certificate], ["server.key", key.trim()]] as const) {
    yield* admin(`COPY (SELECT unnest(string_to_array('${text}', E'\\n'))) TO PROGRAM 'umask 077; cat > ${name}'`)
  }
  yield* admin("ALTER SYSTEM SET ssl = on")
  yield* admin("SELECT pg_reload_conf()")
  const server = { port, url: `postgres://payments:payments@localhost:${port}/payments`, rootCert, stranger, admin }
  yield* seen(`${server.url}?sslmode=require`).pipe(
    Effect.retry(Schedule.intersect(Schedule.spaced("20 millis"), Schedule.recurs(200)))
  )
  return server
})

class Server extends Context.Tag("test/Server")<Server, Effect.Effect.Success<typeof make>>() {}

const on = (url: string) => Postgres.layer({ url: Redacted.make(url), maxConnections: 3, connectTimeoutMillis: 8_000 })

/** Facts of a session over this URL. */
const seen = (url: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<
      { readonly tls: boolean; readonly plan: string; readonly name: string; readonly port: number }
    >`
      SELECT ssl AS tls, current_setting('plan_cache_mode') AS plan, current_setting('application_name') AS name,
             inet_server_port() AS port
      FROM pg_stat_ssl WHERE pid = pg_backend_pid()
    `.pipe(Postgres.run("9 seconds"))
    return row!
  }).pipe(Effect.provide(on(url)))

const refusal = (url: string) =>
  Effect.flip(seen(url)).pipe(
    Effect.tap((error) => assert.isTrue(error.refused, `${error.message}`)),
    Effect.map((error) => error.message)
  )

const ground = Layer.scoped(Server, make).pipe(Layer.provideMerge(NodeContext.layer))

layer(ground, { excludeTestServices: true, timeout: "120 seconds" })("A connection to PostgreSQL", (it) => {
  it.scoped("encrypts and verifies by sslmode, without warnings", () =>
    Effect.gen(function*() {
      const { port, rootCert, stranger, url } = yield* Server
      const warnings: Array<string> = []
      const listener = ({ message }: Error) => void warnings.push(message)
      yield* Effect.acquireRelease(
        Effect.sync(() => process.on("warning", listener)),
        () => Effect.sync(() => process.off("warning", listener))
      )
      const encrypted = {
        "": true,
        "?sslmode=disable": false,
        "?sslmode=allow": false,
        "?sslmode=prefer": true,
        "?sslmode=require": true,
        [`?sslmode=verify-ca&sslrootcert=${rootCert}`]: true,
        [`?sslmode=verify-full&sslrootcert=${rootCert}`]: true
      }
      for (const [parameters, tls] of Object.entries(encrypted)) {
        assert.deepInclude(yield* seen(url + parameters), { tls }, parameters)
      }
      const byAddress = url.replace("localhost", "127.0.0.1")
      assert.isTrue((yield* seen(`${byAddress}?sslmode=verify-ca&sslrootcert=${rootCert}`)).tls)
      const named = `postgres://payments:payments@localhost:${port}/payments?hostaddr=127.0.0.1`
      assert.isTrue((yield* seen(`${named}&sslmode=verify-full&sslrootcert=${rootCert}`)).tls)

      assert.match(yield* refusal(`${byAddress}?sslmode=verify-full&sslrootcert=${rootCert}`), /127\.0\.0\.1/)
      assert.match(yield* refusal(`${url}?sslmode=verify-full`), /unable to verify|self.signed/)
      assert.match(yield* refusal(`${url}?sslmode=require&sslrootcert=${stranger}`), /certificate/)
      assert.match(yield* refusal(`${url}?sslmode=verify-ca&sslrootcert=${rootCert}.not`), /sslrootcert cannot be read/)
      assert.match(
        yield* refusal(url.replace(":payments@", ":hunter2@")),
        /^the database refuses: .*"payments" \(SQLSTATE 28P01\)$/
      )
      assert.match(yield* refusal(url.replace(":payments@", "@")), /URL has none/)
      assert.match(yield* refusal(`${url}x`), /"paymentsx" does not exist \(SQLSTATE 3D000\)/)
      assert.deepStrictEqual(warnings, [])
    }))

  it.scoped("finds the suitable host among several, also after a change", () =>
    Effect.gen(function*() {
      const { admin, port, url } = yield* Server
      const closedPort = yield* freePort
      const several = url.replace(`localhost:${port}`, `127.0.0.1:${closedPort},127.0.0.1:${port},localhost:${port}`)
      assert.strictEqual((yield* seen(several)).port, port)
      assert.strictEqual((yield* seen(`${several}?target_session_attrs=read-write`)).port, port)
      assert.strictEqual((yield* seen(`${several}?target_session_attrs=prefer-standby`)).port, port)
      const none = yield* Effect.flip(seen(`${several}?target_session_attrs=standby`))
      assert.match(none.message, /ECONNREFUSED.*; 127.0.0.1:\d+ is no standby, but target_session_attrs=standby/)
      assert.isFalse(none.refused)
      yield* Effect.acquireUseRelease(
        admin("ALTER DATABASE payments SET default_transaction_read_only = on"),
        () =>
          Effect.gen(function*() {
            const error = yield* Effect.flip(seen(`${several}?target_session_attrs=read-write`))
            assert.match(
              error.message,
              /^the database is read-only: .*is read-only, but target_session_attrs=read-write/
            )
            // several hosts: prefers the writable one; without one, reads continue
            assert.strictEqual((yield* seen(several)).port, port)
            assert.strictEqual((yield* seen(`${url}?target_session_attrs=read-only`)).port, port)
          }),
        () => Effect.orDie(admin("ALTER DATABASE payments RESET default_transaction_read_only"))
      )
    }))

  it.scoped("sends a pooler no parameter that it refuses, and still sets the session", () =>
    Effect.gen(function*() {
      const { url } = yield* Server
      const pooler = yield* NoOptions.make(url)
      assert.deepInclude(yield* seen(pooler), { tls: false, plan: "force_generic_plan", name: "payments" })
      assert.strictEqual((yield* seen(`${url}?application_name=mine`)).name, "mine")
      // the operator's `options` go to the server unchanged
      const refused = yield* Effect.flip(seen(`${pooler}?options=-c%20geqo%3Doff`))
      assert.match(refused.message, /unsupported startup parameter: options \(SQLSTATE 08P01\)/)
      yield* Effect.provide(PostgresPooler.check, on(pooler))
      const sleep = Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const late = yield* Effect.flip((yield* Postgres.runner("300 millis"))(sql`SELECT pg_sleep(60 + ${1}::int)`))
        assert.match(late.message, /took too long/)
        yield* sql`SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60%' AND state = 'active' AND pid <> pg_backend_pid()`
          .pipe(
            Effect.repeat({ until: (rows) => rows.length === 0, schedule: Schedule.spaced("10 millis") }),
            Effect.timeout("5 seconds")
          )
      })
      yield* Effect.provide(sleep, on(pooler))
    }))
})
