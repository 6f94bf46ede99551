import { assert, describe, it } from "@effect/vitest"
import { Effect, Either, Layer, Option, Redacted } from "effect"
import { Redis as Client } from "ioredis"
import { spawn } from "node:child_process"
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { inject, vi } from "vitest"
import * as RedisServer from "../../../src/doctor/RedisServer.js"
import { OrderId } from "../../../src/domain/Payment.js"
import { Redis } from "../../../src/infra/redis/Redis.js"
import type { RedisServer as Server } from "../../../src/infra/redis/RedisAccess.js"
import * as RedisDescription from "../../../src/infra/redis/RedisDescription.js"
import * as RedisUrl from "../../../src/infra/redis/RedisUrl.js"
import * as Secret from "../../../src/infra/runtime/Secret.js"
import { Dedupe } from "../../../src/inventory/Dedupe.js"
import * as Authority from "../../../src/local/Authority.js"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Sentinels from "../../harness/Sentinels.js"
import * as World from "../../harness/World.js"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "redis-access-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

const connection = (url: string, options = {}) =>
  Effect.acquireRelease(
    Effect.sync(() => new Client(url, options).on("error", () => {})),
    (client) => Effect.sync(() => client.disconnect())
  )

/** Sends commands with all rights. */
const administrator = (url: string, options = {}) =>
  Effect.map(
    connection(url, options),
    (client) => (name: string, ...args: ReadonlyArray<string>) => Effect.promise(() => client.call(name, ...args))
  )

/** What the client reports about this server: the reason of the outage, undefined when it works. */
const said = (server: Server) =>
  Effect.gen(function*() {
    const changes: Array<string | undefined> = []
    const redis = Redis.layer({ ...server, onChange: (why) => Effect.sync(() => void changes.push(why)) })
    const context = yield* Layer.build(Layer.provide(Dedupe.layer({ ttl: "1 hour" }), redis))
    const { remember } = yield* Effect.provide(Dedupe, context)
    const says = (check: (last: string | undefined) => void) =>
      Effect.sync(() => {
        assert.isNotEmpty(changes)
        check(changes.at(-1))
      }).pipe(eventually("10 seconds"))
    return {
      says,
      works: says((last) => assert.isUndefined(last)),
      remember: remember([{ idempotentKey: "1", orderId: OrderId.make(7n) }]),
      changes
    }
  })

/** Asserts what a client of this server reports. */
const reports = (server: Server, why: RegExp) =>
  Effect.scoped(Effect.flatMap(said(server), ({ says }) => says((last) => assert.match(String(last), why))))

describe("access to Redis", () => {
  it.scopedLive(
    "TLS, certificates and users: what works, and the setting to change for what does not",
    () =>
      Effect.gen(function*() {
        const authority = Authority.make("authority")
        const { certificate, key } = authority.issue({ names: ["localhost", "127.0.0.1"] })
        const { parts, redisUrl } = yield* World.server("redis", 0, {
          tls: { certificate, key, authority: authority.certificate }
        })
        const path = yield* folder
        const file = (name: string, text: string) => {
          writeFileSync(join(path, name), text)
          return join(path, name)
        }
        const ca = file("ca.pem", authority.certificate)
        const tls = { prefix: "REDIS_TLS", ca }
        const secure = `rediss://localhost:${parts.redis!.port}`
        assert.strictEqual(redisUrl, secure.replace("localhost", "127.0.0.1"))
        const command = yield* administrator(redisUrl!, { tls: { ca: authority.certificate } })
        const at = (url: string, more: Partial<Server> = {}): Server => ({ url: Redacted.make(url), tls, ...more })

        yield* Effect.flatMap(said(at(secure)), ({ works }) => works)
        yield* reports({ url: Redacted.make(secure) }, /authority that is not trusted.*: set REDIS_TLS_CA to the file/)
        yield* reports(
          at(secure, {
            tls: { prefix: "REDIS_TLS", ca: file("stranger.pem", Authority.make("authority").certificate) }
          }),
          /: set REDIS_TLS_CA/
        )
        yield* reports(
          at(secure.replace("localhost", "[::1]")),
          /for another name than ::1.*: write a name of the certificate as host in REDIS_URL/
        )
        // the wrong kind of port
        yield* reports({ url: Redacted.make(secure.replace("rediss", "redis")) }, /write rediss:/)
        yield* reports(
          at(inject("redisUrl").replace("redis:", "rediss:")),
          /does not speak TLS at this port.*: write redis:|server without TLS at the port of REDIS_URL/
        )

        // the least user, and a password that changes
        const password = file("password", "one\n")
        yield* command(
          "ACL",
          "SETUSER",
          "payments",
          "on",
          ">one",
          "resetkeys",
          "~payments:inventory:*",
          "-@all",
          "+mget"
        )
        const secret = Option.getOrThrow(
          Secret.of({ variable: "REDIS_PASSWORD", value: Option.none(), file: Option.some(password) })
        )
        const least = yield* said(at(secure.replace("//", "//payments@"), { password: secret }))
        yield* least.says((last) =>
          assert.match(String(last), /^NOPERM .*: allow the user in REDIS_URL ~payments:inventory/)
        )
        yield* command("ACL", "SETUSER", "payments", "+eval", "+set")
        yield* least.works
        yield* least.remember
        yield* command("ACL", "SETUSER", "payments", "<one", ">two")
        writeFileSync(password, "two\n")
        yield* command("CLIENT", "KILL", "USER", "payments")
        yield* least.remember.pipe(eventually("10 seconds"))
        yield* reports(
          at(secure.replace("//", "//payments:wrong@")),
          /^WRONGPASS .*: check the user in REDIS_URL, and the password in REDIS_URL, REDIS_PASSWORD/
        )

        // a client certificate
        yield* command("CONFIG", "SET", "tls-auth-clients", "yes")
        yield* reports(at(secure), /demands a client certificate.*: set REDIS_TLS_CERT and REDIS_TLS_KEY/)
        const client = authority.issue({ names: ["client"] })
        const mutual = {
          ...tls,
          cert: file("client.pem", client.certificate),
          key: file("client.key", client.key)
        }
        yield* Effect.flatMap(said(at(secure, { tls: mutual })), ({ works }) => works)
        assert.isTrue(Either.isRight(yield* RedisDescription.describe(at(secure, { tls: mutual }))))

        // a server that demands a password of everybody
        yield* command("CONFIG", "SET", "requirepass", "secret-word")
        yield* reports(at(secure, { tls: mutual }), /^NOAUTH .*: set REDIS_PASSWORD_FILE/)
      }),
    60_000
  )

  it.scopedLive(
    "a node of a cluster is refused with its name, at the start and by the doctor",
    () =>
      Effect.gen(function*() {
        const { parts } = yield* World.server("redis", 0)
        const path = yield* folder
        const port = yield* freePort
        yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn(readlinkSync(`/proc/${parts.redis!.pid}/exe`), [
              "--port",
              String(port),
              "--cluster-enabled",
              "yes",
              "--dir",
              path,
              "--save",
              ""
            ], { stdio: "ignore" })
          ),
          (server) => Effect.sync(() => server.kill("SIGKILL"))
        )
        const url = `redis://127.0.0.1:${port}`
        const admin = yield* connection(url)
        yield* Effect.tryPromise(() => admin.ping()).pipe(eventually("10 seconds"))
        const refused = /^(CLUSTERDOWN|CROSSSLOT): REDIS_URL points to a cluster node/
        yield* reports({ url: Redacted.make(url) }, refused)
        yield* Effect.promise(() => admin.call("CLUSTER", "ADDSLOTS", ...Array.from({ length: 16_384 }, (_, i) => i)))
        yield* Effect.promise(() => admin.cluster("INFO")).pipe(
          Effect.tap((info) => Effect.sync(() => assert.include(String(info), "cluster_state:ok"))),
          eventually("10 seconds")
        )
        const { changes, says } = yield* said({ url: Redacted.make(url) })
        yield* says((last) => assert.match(String(last), /^CROSSSLOT: REDIS_URL points to a cluster node/))
        assert.notInclude(changes, undefined)
        const described = Either.getOrThrow(yield* RedisDescription.describe({ url: Redacted.make(url) }))
        const [role] = RedisServer.check(described)
        assert.match(String(role?.fault?.remedy), /Redis without cluster mode/)
      }),
    60_000
  )

  it.scopedLive(
    "Sentinels lead to the primary; the address of a Sentinel without their URL is refused with its name",
    () =>
      Effect.gen(function*() {
        const { redisUrl } = yield* World.server("redis", 0)
        const [open] = yield* Sentinels.make({ primary: redisUrl! })
        const [silent] = yield* Sentinels.make({ primary: redisUrl! })
        yield* silent!.freeze
        const [locked] = yield* Sentinels.make({
          primary: redisUrl!,
          listen: (port) => [`port ${port}`, "requirepass of-sentinels"],
          client: { password: "of-sentinels" }
        })
        const away = `127.0.0.1:${yield* freePort}`
        const at = (text: string): Server => ({ url: Either.getOrThrow(RedisUrl.setting(text)) })
        yield* reports(
          at(`redis://${open!.at}`),
          /^ERR unknown command.*: REDIS_URL points to a Sentinel, or.*redis\+sentinel/
        )
        for (
          const works of [
            `redis+sentinel://${away},${silent!.at},${open!.at}/main/7`,
            `redis+sentinel://${locked!.at}/main?sentinel_password=of-sentinels`
          ]
        ) {
          yield* Effect.scoped(Effect.gen(function*() {
            const client = yield* said(at(works))
            yield* client.works
            yield* client.remember
            assert.strictEqual(Either.getOrThrow(yield* RedisDescription.describe(at(works))).role, "master")
          }))
        }
        const seventh = yield* connection(redisUrl!, { db: 7 })
        assert.isAbove(yield* Effect.promise(() => seventh.dbsize()), 0)
        yield* reports(
          at(`redis+sentinel://${away}/main`),
          /^no Sentinel leads to the primary: 127.0.0.1:\d+: connect ECONNREFUSED/
        )
        yield* reports(
          at(`redis+sentinel://${open!.at}/other`),
          /^no Sentinel leads .*: knows no primary of the name other$/
        )
        yield* reports(
          at(`redis+sentinel://${new URL(redisUrl!).host}/main`),
          /^no Sentinel leads .*unknown command .?sentinel.?: it is a Redis, and no Sentinel$/i
        )
        yield* reports(
          at(`redis+sentinel://${locked!.at}/main`),
          /^no Sentinel leads .*NOAUTH .*: add \?sentinel_password=… to REDIS_URL$/
        )
        const wrong = at(`redis+sentinel://${locked!.at}/main?sentinel_password=secret-word`)
        yield* reports(wrong, /^no Sentinel leads .*WRONGPASS .*: check sentinel_password in REDIS_URL$/)
        const refused = yield* Effect.flip(RedisDescription.describe(wrong))
        assert.notInclude(String((refused.cause as Error).message), "secret-word")
      }),
    60_000
  )

  it.scopedLive(
    "behind Sentinels: a user, a password that changes, and connections that end; the console stays empty",
    () =>
      Effect.gen(function*() {
        const { redisUrl } = yield* World.server("redis", 0)
        const command = yield* administrator(redisUrl!)
        const allowed = ["~payments:inventory:*", "-@all", "+mget", "+eval", "+set"]
        yield* command("ACL", "SETUSER", "payments", "on", ">one", ...allowed)
        const sentinels = yield* Sentinels.make({ primary: redisUrl!, count: 2 })
        const path = yield* folder
        const password = join(path, "password")
        writeFileSync(password, "one\n")
        const secret = Option.getOrThrow(
          Secret.of({ variable: "REDIS_PASSWORD", value: Option.none(), file: Option.some(password) })
        )
        // these Sentinels demand no password
        const places = sentinels.map(({ at }) => at).join(",")
        const url = Redacted.make(`redis+sentinel://payments@${places}/main?sentinel_password=unused`)
        const spies = (["log", "warn", "error"] as const).map((name) => vi.spyOn(console, name))
        yield* Effect.addFinalizer(() => Effect.sync(() => spies.forEach((spy) => spy.mockRestore())))
        const client = yield* said({ url, password: secret })
        yield* client.works
        for (let i = 0; i < 2; i++) {
          yield* command("CLIENT", "KILL", "USER", "payments")
          yield* client.remember.pipe(eventually("10 seconds"))
        }
        assert.notInclude(client.changes.join(), "no Sentinel")
        yield* command("ACL", "SETUSER", "payments", "<one", ">two")
        writeFileSync(password, "two\n")
        yield* command("CLIENT", "KILL", "USER", "payments")
        yield* client.remember.pipe(eventually("10 seconds"))
        for (const spy of spies) assert.deepStrictEqual(spy.mock.calls, [])
      }),
    60_000
  )

  it.scopedLive(
    "TLS to Sentinels and to the primary that they name",
    () =>
      Effect.gen(function*() {
        const authority = Authority.make("authority")
        const { certificate, key } = authority.issue({ names: ["localhost", "127.0.0.1"] })
        const { redisUrl } = yield* World.server("redis", 0, {
          tls: { certificate, key, authority: authority.certificate }
        })
        const path = yield* folder
        const file = (name: string, text: string) => {
          writeFileSync(join(path, name), text)
          return join(path, name)
        }
        const ca = file("ca.pem", authority.certificate)
        const [sentinel] = yield* Sentinels.make({
          primary: redisUrl!,
          listen: (port) => [
            "port 0",
            `tls-port ${port}`,
            `tls-cert-file ${file("server.pem", certificate)}`,
            `tls-key-file ${file("server.key", key)}`,
            `tls-ca-cert-file ${ca}`,
            "tls-auth-clients no",
            "tls-replication yes"
          ],
          client: { tls: { ca: authority.certificate } }
        })
        const url = Redacted.make(`rediss+sentinel://${sentinel!.at}/main`)
        yield* Effect.flatMap(said({ url, tls: { prefix: "REDIS_TLS", ca } }), ({ works }) => works)
        yield* reports({ url }, /^no Sentinel leads .*authority that is not trusted.*: set REDIS_TLS_CA/)
        // the right file comes later
        const late = file("late.pem", Authority.make("authority").certificate)
        const client = yield* said({ url, tls: { prefix: "REDIS_TLS", ca: late } })
        yield* client.says((last) => assert.match(String(last), /: set REDIS_TLS_CA/))
        file("late.pem", authority.certificate)
        yield* client.works
        // without a file there is TLS all the same
        yield* reports(
          { url, tls: { prefix: "REDIS_TLS", ca: join(path, "missing.pem") } },
          /authority that is not trusted/
        )
        const plain = Redacted.make(`redis+sentinel://${sentinel!.at}/main`)
        yield* reports({ url: plain }, /^no Sentinel leads .*write rediss\+sentinel/)
      }),
    60_000
  )
})
