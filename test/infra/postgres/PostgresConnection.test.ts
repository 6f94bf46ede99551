import { FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Option, Redacted, Schedule } from "effect"
import { inject } from "vitest"
import * as Postgres from "../../../src/infra/postgres/Postgres.js"
import * as PostgresPooler from "../../../src/infra/postgres/PostgresPooler.js"
import * as Secret from "../../../src/infra/runtime/Secret.js"
import * as Authority from "../../../src/local/Authority.js"
import { eventually } from "../../harness/Eventually.js"
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
  const write = (name: string, text: string) =>
    admin(
      `COPY (SELECT unnest(string_to_array('${text.trim()}', E'\\n'))) TO PROGRAM 'umask 077; cat > ${name}.new; mv ${name}.new ${name}'`
    )
  const reload = admin("SELECT pg_reload_conf()")
  const use = (identity: Authority.Identity) =>
    Effect.all([write("server.key", identity.key), write("server.crt", identity.certificate), reload])
  yield* write("ca.crt", authority.certificate)
  yield* admin("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
  yield* admin("ALTER SYSTEM SET ssl = on")
  yield* admin("CREATE ROLE known LOGIN")
  yield* write("pg_hba.conf", "hostssl all known all cert\nhost all all all scram-sha-256")
  yield* use({ certificate, key })
  const server = {
    port,
    url: `postgres://payments:payments@localhost:${port}/payments`,
    rootCert,
    stranger,
    admin,
    authority,
    folder,
    use
  }
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
      assert.match(
        yield* refusal(`${url}?sslmode=verify-full`),
        /authority that is not trusted.*: set sslrootcert in DATABASE_URL/
      )
      assert.match(yield* refusal(`${url}?sslmode=require&sslrootcert=${stranger}`), /set sslrootcert/)
      assert.match(
        yield* refusal(`${url}?sslmode=verify-ca&sslrootcert=${rootCert}.not`),
        /sslrootcert names a file that cannot be read: ENOENT/
      )
      assert.match(
        yield* refusal(url.replace(":payments@", ":hunter2@")),
        /^the database refuses: .*"payments" \(SQLSTATE 28P01\): check user and password in DATABASE_URL$/
      )
      assert.match(yield* refusal(url.replace(":payments@", "@")), /URL has none: set DATABASE_PASSWORD_FILE/)
      assert.match(yield* refusal(`${url}x`), /"paymentsx" does not exist \(SQLSTATE 3D000\)/)
      assert.deepStrictEqual(warnings, [])
    }))

  it.scoped("says what to change when server or client are not known", () =>
    Effect.gen(function*() {
      const { authority, folder, port, rootCert, url, use } = yield* Server
      const fs = yield* FileSystem.FileSystem
      const file = (name: string, text: string) =>
        Effect.as(fs.writeFileString(`${folder}/${name}`, text), `${folder}/${name}`)
      const files = Effect.fnUntraced(function*(name: string, { certificate, key }: Authority.Identity) {
        return `&sslcert=${yield* file(`${name}.crt`, certificate)}&sslkey=${yield* file(`${name}.key`, key)}`
      })
      const full = `${url}?sslmode=verify-full&sslrootcert=${rootCert}`
      const known = full.replace("payments:payments@", "known@")
      const own = authority.issue({ names: ["known"] })

      // client certificates
      assert.isTrue((yield* seen(known + (yield* files("known", own)))).tls)
      assert.match(
        yield* refusal(known),
        /SQLSTATE 28000\): check pg_hba.conf of the server for this user: .*\(sslcert and sslkey\)/
      )
      assert.match(yield* refusal(known + (yield* files("other", authority.issue({ names: ["other"] })))), /28000/)
      assert.match(
        yield* refusal(known + (yield* files("stranger", Authority.make("authority").issue({ names: ["known"] })))),
        /does not trust the authority of our client certificate .*: check sslcert and sslkey in DATABASE_URL/
      )
      const expired = authority.issue({ names: ["known"], until: new Date(new Date().getTime() - 60_000) })
      assert.match(yield* refusal(known + (yield* files("expired", expired))), /our client certificate has expired/)
      const torn = { certificate: own.certificate, key: authority.issue({ names: ["known"] }).key }
      assert.match(
        yield* refusal(known + (yield* files("torn", torn))),
        /sslkey names .* is not the key of the certificate/
      )
      assert.match(
        yield* refusal(`${url}?sslmode=verify-full&sslrootcert=${yield* file("no.crt", "nothing")}`),
        /sslrootcert names .*, which has no certificate in PEM/
      )

      // the server
      assert.match(
        yield* refusal(full.replace("localhost", "127.0.0.1")),
        /for another name than 127.0.0.1 .*: write a name of the certificate as host in DATABASE_URL; hostaddr/
      )
      yield* use(authority.issue({ names: ["localhost"], until: new Date(new Date().getTime() - 60_000) }))
      yield* eventually("10 seconds")(Effect.gen(function*() {
        assert.match(yield* refusal(full), /certificate has expired .*: renew it at the server/)
      }))
      yield* use(authority.issue({ names: ["localhost"] }))
      yield* eventually("10 seconds")(seen(full))
      const plain = new URL(inject("databaseUrl"))
      plain.search = "?sslmode=require"
      assert.match(
        yield* refusal(plain.href),
        /does not support TLS, which sslmode in DATABASE_URL requires: turn ssl on/
      )
      assert.notEqual(plain.port, String(port))
    }))

  it.scoped("a password and certificates are replaced under load: calls go on", () =>
    Effect.gen(function*() {
      const { admin, authority, folder, rootCert, url, use } = yield* Server
      const fs = yield* FileSystem.FileSystem
      const path = `${folder}/password`
      const set = Effect.fnUntraced(function*(password: string) {
        yield* admin(`ALTER ROLE rotated PASSWORD '${password}'`)
      })
      yield* admin("CREATE ROLE rotated LOGIN")
      yield* set("one")
      yield* fs.writeFileString(path, "one\n")
      const secret = Option.getOrThrow(
        Secret.of({ variable: "DATABASE_PASSWORD", value: Option.none(), file: Option.some(path) })
      )
      const load = Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const serials = new Set<string>()
        const failures: Array<string> = []
        let answers = 0
        const call = Effect.gen(function*() {
          const [row] = yield* sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid, pg_sleep(0.002)`.pipe(
            Postgres.run("5 seconds")
          )
          serials.add(String(row!.pid))
          answers++
        }).pipe(Effect.catchAll(({ message }) => Effect.sync(() => void failures.push(message))))
        const caller = Effect.forever(Effect.zipRight(call, Effect.sleep("1 millis")))
        yield* Effect.forkScoped(caller)
        const more = Effect.suspend(() => {
          const enough = answers + 40
          return Effect.sync(() => assert.isAbove(answers, enough)).pipe(eventually("10 seconds"))
        })
        yield* more
        // the password is new, and the file is old: new connections are refused, and calls share the open one
        yield* set("two")
        yield* Effect.forkScoped(Effect.all([caller, caller, caller], { concurrency: "unbounded" }))
        yield* more
        yield* fs.writeFileString(path, "two\n")
        // another certificate of the same authority, for new connections
        yield* use(authority.issue({ names: ["localhost", "renewed"] }))
        yield* more
        assert.deepStrictEqual(failures, [])
        const before = new Set(serials)
        yield* admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotated'")
        yield* Effect.sync(() => assert.isAbove(Array.from(serials).filter((pid) => !before.has(pid)).length, 0)).pipe(
          eventually("10 seconds")
        )
        yield* more
        // calls that the server ended, and none that it refused
        for (const failure of failures) assert.match(failure, /57P01|terminated|Connection/)
        assert.isAtMost(failures.length, 4)
      })
      const parameters = `?sslmode=verify-full&sslrootcert=${rootCert}`
      yield* load.pipe(Effect.provide(Postgres.layer({
        url: Redacted.make(url.replace("payments:payments@", "rotated@") + parameters),
        password: secret,
        maxConnections: 4,
        connectTimeoutMillis: 8_000
      })))
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
            Effect.timeout("20 seconds")
          )
      })
      yield* Effect.provide(sleep, on(pooler))
    }))
})
