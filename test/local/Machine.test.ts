import { Command, FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { Kafka, logLevel } from "kafkajs"
import { fileURLToPath } from "node:url"
import { Client } from "pg"
import * as MavenProxy from "../../src/local/MavenProxy.js"
import * as PostgresPid from "../../src/local/PostgresPid.js"
import * as Stack from "../../src/local/Stack.js"

const cache = fileURLToPath(new URL("../../.local/cache", import.meta.url))
const ports = { postgres: 0, redis: 0, kafka: 0 }

const freshFolder = (name: string) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const parent = yield* fs.makeTempDirectoryScoped({ prefix: "payments-machine-" })
    return { parent, folder: `${parent}/${name}/stack` }
  })

/** Puts variables into the environment of this process, which its servers get, for the life of the scope. */
const environment = (variables: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = { ...process.env }
      Object.assign(process.env, variables)
      return before
    }),
    (before) =>
      Effect.sync(() => {
        for (const name of Object.keys(variables)) {
          if (before[name] === undefined) delete process.env[name]
          else process.env[name] = before[name]
        }
      })
  )

const withAdmin = <A>(brokers: string, use: (admin: ReturnType<Kafka["admin"]>) => Promise<A>) =>
  Effect.acquireUseRelease(
    Effect.promise(() => {
      const admin = new Kafka({ clientId: "test", brokers: [brokers], logLevel: logLevel.NOTHING }).admin()
      return admin.connect().then(() => admin)
    }),
    (admin) => Effect.promise(() => use(admin)),
    (admin) => Effect.promise(() => admin.disconnect())
  )

const one = (url: string) =>
  Effect.acquireUseRelease(
    Effect.promise(() => {
      const client = new Client({ connectionString: url })
      return client.connect().then(() => client)
    }),
    (client) => Effect.promise(() => client.query<{ one: number }>("SELECT one FROM kept")),
    (client) => Effect.promise(() => client.end())
  ).pipe(Effect.map(({ rows }) => rows))

const write = (url: string) =>
  Effect.promise(() => {
    const client = new Client({ connectionString: url })
    return client.connect().then(() => client.query("CREATE TABLE kept AS SELECT 1 AS one")).then(() => client.end())
  })

layer(NodeContext.layer, { excludeTestServices: true })("any machine", (it) => {
  it.scoped(
    "a broker keeps its data in its own folder under any folder name, locale and environment, also after losing its identity",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const { folder, parent } = yield* freshFolder("ü, it's $5 & 100% #1")
        yield* environment({
          LC_ALL: "C",
          JAVA_TOOL_OPTIONS: "-XX:+UseG1GC",
          _JAVA_OPTIONS: "-Xmx16m",
          CLASSPATH: "/nowhere",
          KAFKA_OPTS: "-Dnonsense",
          KAFKA_HEAP_OPTS: "-Xmx16m",
          LOG_DIR: `${parent}/elsewhere`
        })
        const start = Stack.start({ folder, cache, ports, parts: ["kafka"] })
        yield* Effect.scoped(Effect.gen(function*() {
          const { kafkaBrokers } = yield* start
          yield* withAdmin(kafkaBrokers!, (admin) => admin.createTopics({ topics: [{ topic: "kept" }] }))
        }))
        const meta = `${folder}/kafka/data/meta.properties`
        const identity = yield* fs.readFileString(meta)
        // what a power failure leaves of a file
        yield* fs.writeFileString(meta, "")
        yield* Effect.scoped(Effect.gen(function*() {
          const { kafkaBrokers } = yield* start
          assert.include(yield* withAdmin(kafkaBrokers!, (admin) => admin.listTopics()), "kept")
        }))
        const cluster = (text: string) => /^cluster\.id=.+$/m.exec(text)?.[0]
        assert.strictEqual(cluster(yield* fs.readFileString(meta)), cluster(identity))
        assert.deepStrictEqual(yield* fs.readDirectory(parent), ["ü, it's $5 & 100% #1"])
      }),
    120_000
  )

  it.scoped(
    "PostgreSQL is never started twice on its data, and starts when another program has the pid of its killed server",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const { folder } = yield* freshFolder("ü, it's $5 & 100% #1")
        yield* environment({
          LC_ALL: "POSIX",
          PGDATESTYLE: "nonsense",
          PGDATA: "/nowhere",
          PGPORT: "1"
        })
        const start = Stack.start({ folder, cache, ports, parts: ["postgres", "redis"] })
        const postgres = Stack.start({ folder, cache, ports, parts: ["postgres"] })
        const data = `${folder}/postgres/data`
        const pidFile = `${data}/postmaster.pid`
        yield* Effect.scoped(Effect.gen(function*() {
          const { databaseUrl, parts } = yield* start
          yield* write(databaseUrl!)
          // no file names the holder any more, and the server still runs
          yield* fs.remove(`${folder}/stack.json`)
          const error = yield* Effect.flip(Effect.scoped(postgres))
          assert.include(error.message, `process ${parts.postgres!.pid} is a PostgreSQL that already serves the data`)
          assert.include(error.wayOut, `kill -INT ${parts.postgres!.pid}`)
          assert.notInclude(error.message, "reset")
        }))
        // what a power failure leaves
        yield* fs.writeFileString(pidFile, "")
        yield* PostgresPid.clear(data)
        assert.isFalse(yield* fs.exists(pidFile))

        const { gid, uid } = process.getuid?.() === 0 ? { gid: 65534, uid: 65534 } : { gid: undefined, uid: undefined }
        const prefix = uid === undefined ? [] : ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"]
        const [program = "", ...rest] = [...prefix, "sleep", "60"]
        const stranger = yield* Command.start(Command.make(program, ...rest))
        yield* fs.writeFileString(pidFile, `${stranger.pid}\n${data}\n1\n1\n\n\n1 1\n`)
        const kept = yield* Effect.scoped(Effect.flatMap(postgres, ({ databaseUrl }) => one(databaseUrl!)))
        assert.deepStrictEqual(kept, [{ one: 1 }])
        assert.isTrue(yield* stranger.isRunning)
      }),
    60_000
  )

  it.scoped("Maven gets the proxies of the environment, without their passwords", () =>
    Effect.gen(function*() {
      yield* environment({
        http_proxy: "",
        HTTP_PROXY: "",
        ALL_PROXY: "",
        all_proxy: "",
        https_proxy: "",
        HTTPS_PROXY: ""
      })
      assert.deepStrictEqual(yield* MavenProxy.flags, [])
      yield* environment({ https_proxy: "http://me:hush-hush@proxy:3128", no_proxy: "localhost, .corp" })
      assert.deepStrictEqual(yield* MavenProxy.flags, [
        "-Dhttps.proxyHost=proxy",
        "-Dhttps.proxyPort=3128",
        "-Dhttp.nonProxyHosts=localhost|*.corp",
        "-Daether.connector.http.useSystemProperties=true"
      ])
      yield* environment({ https_proxy: "no url at all:" })
      assert.deepStrictEqual(yield* MavenProxy.flags, [])
    }))
})
