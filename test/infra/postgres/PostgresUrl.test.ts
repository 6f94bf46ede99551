import { assert, describe, it } from "@effect/vitest"
import { Either, FastCheck as fc, Redacted } from "effect"
import { userInfo } from "node:os"
import * as PostgresUrl from "../../../src/infra/postgres/PostgresUrl.js"

const read = (url: string) => Either.getOrThrowWith(PostgresUrl.parse(url), (problem) => new Error(`${url} ${problem}`))
const places = (url: string) => read(url).hosts.map(({ address, host, port }) => `${host}|${port}|${address ?? ""}`)
const problem = (url: string) =>
  Either.getOrElse(Either.flip(PostgresUrl.parse(url)), () => assert.fail(`${url} is read`))

describe("PostgresUrl", () => {
  it("reads the hosts as libpq does", () => {
    const cases: Record<string, ReadonlyArray<string>> = {
      "postgres://": ["localhost|5432|"],
      "postgresql:///orders": ["localhost|5432|"],
      "postgres://db": ["db|5432|"],
      "postgres://db:6000/x": ["db|6000|"],
      "postgres://u:p@/db?host=/cloudsql/a:b:c": ["/cloudsql/a:b:c|5432|"],
      "postgres://u@%2Fvar%2Frun%2Fpostgresql:5433/db": ["/var/run/postgresql|5433|"],
      "postgres://u@[2001:db8::1]:5433,[::1]/db": ["2001:db8::1|5433|", "::1|5432|"],
      "postgres://u@a:1,b:2,c/db": ["a|1|", "b|2|", "c|5432|"],
      "postgres://u@/db?host=a,b&port=1,2": ["a|1|", "b|2|"],
      "postgres://u@/db?host=a,b&port=7": ["a|7|", "b|7|"],
      "postgres://u@name/db?hostaddr=10.0.0.1": ["name|5432|10.0.0.1"],
      "postgres://u@/db?hostaddr=10.0.0.1": ["10.0.0.1|5432|10.0.0.1"]
    }
    for (const [url, expected] of Object.entries(cases)) assert.deepStrictEqual(places(url), expected, url)
  })

  it("fills in defaults and decodes percent-encoding", () => {
    const { database, password, user } = read("postgres://")
    assert.deepStrictEqual([user, password, database], [userInfo().username, undefined, userInfo().username])
    assert.strictEqual(read("postgres://me@h").database, "me")
    const encoded = read("postgres://a%40b:p%2Fw%3F%23%C3%9F@h/my%20db")
    assert.deepStrictEqual([encoded.user, encoded.password, encoded.database], ["a@b", "p/w?#ß", "my db"])
    // characters that need no encoding
    assert.strictEqual(read("postgres://u:p@w#:+@h/db").password, "p@w#:+")
    assert.strictEqual(read("postgres://u@h/db?password=a+b%26c").password, "a+b&c")
  })

  it("reads the parameters of libpq", () => {
    const target = read(
      "postgres://h/db?sslmode=verify-full&sslrootcert=system&target_session_attrs=primary&application_name=me" +
        "&connect_timeout=3&keepalives=0&options=-c%20search_path%3Dpayments&channel_binding=require&load_balance_hosts=random"
    )
    assert.deepInclude(target, {
      session: "primary",
      applicationName: "me",
      connectTimeoutMillis: 3_000,
      keepAlive: false,
      options: "-c search_path=payments",
      channelBinding: "require",
      shuffled: true
    })
    assert.deepStrictEqual(target.tls, { mode: "verify-full", rootCert: "system", direct: false })
    assert.strictEqual(read("postgres://h?ssl=true").tls.mode, "require")
    assert.strictEqual(read("postgres://h").tls.mode, "prefer")
    assert.strictEqual(read("postgres://h").session, "any")
    assert.strictEqual(read("postgres://a,b").session, "prefer-read-write")
  })

  it("a problem names the parameter", () => {
    const cases: Record<string, RegExp> = {
      "mysql://h/db": /not a URL that starts with postgres:\/\//,
      "host=h dbname=db": /list of key=value/,
      "postgres://h/db?sslmod=require": /unknown parameter: sslmod$/,
      "postgres://h/db?sslmode=on": /sslmode that is not one of disable, allow/,
      "postgres://h/db?sslmode=verify-ca": /sslrootcert/,
      "postgres://h/db?sslmode=require&sslrootcert=system": /verify-full/,
      "postgres://h/db?sslcert=/a": /sslkey/,
      "postgres://h/db?service=x": /service, which is not supported/,
      "postgres://h/db?passfile=x": /passfile, which is not supported/,
      "postgres://h/db?connect_timeout=soon": /connect_timeout that is not a whole number/,
      "postgres://h/db?client_encoding=LATIN1": /client_encoding/,
      "postgres://h/db?port": /parameter without a value/,
      "postgres://h:0/db": /port/,
      "postgres://h:70000/db": /port/,
      "postgres://a,b,c/db?port=1,2": /3 hosts, but 2 values in port/,
      "postgres://%zz@h/db": /% in the user name/,
      "postgres://u:secret/x@h/db": /port|%2F/
    }
    for (const [url, expected] of Object.entries(cases)) assert.match(problem(url), expected, url)
  })

  it("shows no password, neither in the URL nor in a problem", () => {
    const secret = fc.stringMatching(/^[a-zA-Z0-9@:/?#&%+ .,=[\]]{0,6}hunter2[a-zA-Z0-9@:/?#&%+ .,=[\]]{0,6}$/)
    const urls = (password: string) => [
      `postgres://user:${password}@db:5432/payments`,
      `postgres://user:${encodeURIComponent(password)}@db/payments?sslmode=require`,
      `postgres://db/payments?user=u&password=${encodeURIComponent(password)}`,
      `postgres://db/payments?p%61ssword=${encodeURIComponent(password)}&sslp%41ssword=${encodeURIComponent(password)}`
    ]
    fc.assert(
      fc.property(secret, (password) => {
        for (const url of urls(password)) {
          const said = Either.match(PostgresUrl.parse(url), {
            onLeft: (problem) => problem,
            onRight: () => PostgresUrl.show(Redacted.make(url))
          })
          assert.notInclude(said, "hunter2", url)
        }
      }),
      { numRuns: 1_000, examples: [["@?hunter2="], ["?hunter2="]] }
    )
    assert.strictEqual(
      PostgresUrl.show(Redacted.make("postgres://app:p@h#x@a:1,b/db?sslmode=require")),
      "postgres://app:<redacted>@a:1,b/db?sslmode=require"
    )
  })
})
