import { Command, FileSystem } from "@effect/platform"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { SqlClient } from "@effect/sql"
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Option, Redacted, Scope } from "effect"
import { Redis } from "ioredis"
import { Kafka, logLevel } from "kafkajs"
import type { AddressInfo } from "node:net"
import { createServer } from "node:net"
import { fileURLToPath } from "node:url"
import { Client } from "pg"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import * as Authority from "../../src/local/Authority.js"
import * as Holder from "../../src/local/Holder.js"
import * as Identity from "../../src/local/Identity.js"
import * as Stack from "../../src/local/Stack.js"
import * as StackFile from "../../src/local/StackFile.js"

const cache = fileURLToPath(new URL("../../.local/cache", import.meta.url))
const ports = { postgres: 0, redis: 0, kafka: 0 }

const freshFolder = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = `${yield* fs.makeTempDirectoryScoped({ prefix: "payments-stack-" })}/stack`
  yield* fs.makeDirectory(folder)
  return folder
})

const identityOf = (pid: number) => Effect.flatten(Identity.of(pid))

/** A process in the role of a server or holder; the test kills it at the end. */
const sleeper = Command.start(Command.make("sleep", "60")).pipe(Effect.flatMap(({ pid }) => identityOf(pid)))

const nobody = (identity: Identity.Identity) => ({ ...identity, started: "another time" })

const contents = (holder: Identity.Identity, ...servers: ReadonlyArray<Identity.Identity>): StackFile.Contents => ({
  holder,
  startedAt: new Date(0),
  parts: servers.map((process) => ({ part: "redis", process, port: 1, url: "redis://localhost:1", log: "log" }))
})

const withRedis = <A>(url: string, use: (redis: Redis) => Promise<A>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new Redis(url)),
    (redis) => Effect.promise(() => use(redis)),
    (redis) => Effect.sync(() => redis.disconnect())
  )

const query = (url: string, text: string) =>
  Effect.acquireUseRelease(
    Effect.promise(() => {
      const client = new Client({ connectionString: url })
      return client.connect().then(() => client)
    }),
    (client) => Effect.promise(() => client.query(text)),
    (client) => Effect.promise(() => client.end())
  )

const sendAndFetch = Effect.fnUntraced(function*(brokers: string) {
  const kafka = new Kafka({ clientId: "test", brokers: [brokers], logLevel: logLevel.NOTHING })
  const admin = kafka.admin()
  const producer = kafka.producer()
  const consumer = kafka.consumer({ groupId: "test" })
  const received = yield* Deferred.make<string | undefined>()
  yield* Effect.addFinalizer(() =>
    Effect.promise(() => Promise.allSettled([admin.disconnect(), producer.disconnect(), consumer.disconnect()]))
  )
  yield* Effect.promise(() => Promise.all([admin.connect(), producer.connect(), consumer.connect()]))
  yield* Effect.promise(() => admin.createTopics({ topics: [{ topic: "t" }] }))
  const partitions = yield* Effect.promise(() => admin.fetchTopicMetadata({ topics: ["t"] }))
  yield* Effect.promise(() => producer.send({ topic: "t", messages: [{ value: "hello" }] }))
  yield* Effect.promise(() => consumer.subscribe({ topic: "t", fromBeginning: true }))
  yield* Effect.promise(() =>
    consumer.run({
      eachMessage: ({ message }) => {
        Deferred.unsafeDone(received, Exit.succeed(message.value?.toString()))
        return Promise.resolve()
      }
    })
  )
  return { value: yield* Deferred.await(received), partitions: partitions.topics[0]?.partitions.length }
}, Effect.scoped)

layer(NodeContext.layer, { excludeTestServices: true })("local stack", (it) => {
  it.scoped("with a certificate, PostgreSQL and Redis take encrypted connections alone", () =>
    Effect.gen(function*() {
      const authority = Authority.make("authority")
      const { certificate, key } = authority.issue({ names: ["127.0.0.1"] })
      const folder = yield* freshFolder
      const { databaseUrl, redisUrl } = yield* Stack.start({
        folder,
        cache,
        ports,
        parts: ["postgres", "redis"],
        throwaway: true,
        tls: { certificate, key, authority: authority.certificate }
      })
      const encrypted = Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => Postgres.run("5 seconds")(sql`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`)
      )
      const on = (url: string) =>
        Effect.provide(encrypted, Postgres.layer({ url: Redacted.make(url), maxConnections: 1 }))
      assert.match(databaseUrl!, /sslmode=verify-full&sslrootcert=/)
      assert.deepStrictEqual(yield* on(databaseUrl!), [{ ssl: true }])
      assert.match((yield* Effect.flip(on(databaseUrl!.replace(/\?.*/, "?sslmode=disable")))).message, /28000/)
      assert.match(redisUrl!, /^rediss:/)
      const { parts } = yield* Holder.status(folder)
      assert.deepStrictEqual(parts.map(({ answering }) => answering), [true, true])
    }), 60_000)

  it.scoped("all three servers answer, and a throwaway stack leaves nothing behind", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* freshFolder
      const scope = yield* Scope.make()
      const steps: Array<string> = []
      const stack = yield* Stack.start({
        folder,
        cache,
        ports,
        throwaway: true,
        onProgress: ({ part, step }) => Effect.sync(() => void steps.push(`${part} ${step}`))
      }).pipe(Scope.extend(scope))

      const settings = yield* query(
        stack.databaseUrl!,
        `SELECT current_user AS "user", current_database() AS "database",
           current_setting('fsync') AS "fsync", current_setting('synchronous_commit') AS "commit",
           current_setting('password_encryption') AS "password", current_setting('server_encoding') AS "encoding"`
      )
      assert.deepStrictEqual(settings.rows, [{
        user: "payments",
        database: "payments",
        fsync: "on",
        commit: "on",
        password: "scram-sha-256",
        encoding: "UTF8"
      }])
      assert.strictEqual(yield* withRedis(stack.redisUrl!, (redis) => redis.set("key", "value")), "OK")
      assert.deepStrictEqual(yield* sendAndFetch(stack.kafkaBrokers!), { value: "hello", partitions: 4 })

      const status = yield* Holder.status(folder)
      assert.strictEqual(Option.getOrThrow(status.holder).pid, process.pid)
      assert.deepStrictEqual(status.parts.map(({ answering, running }) => [running, answering]), [
        [true, true],
        [true, true],
        [true, true]
      ])
      assert.includeMembers(steps, ["postgres starting", "postgres ready", "redis ready", "kafka ready"])

      yield* Scope.close(scope, Exit.void)
      for (const { pid } of status.parts) assert.deepStrictEqual(yield* Identity.of(pid), Option.none())
      assert.isFalse(yield* fs.exists(folder))
    }), 60_000)

  it.scoped("data stays until a reset, and one process at a time holds the stack", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* freshFolder
      const start = Stack.start({ folder, cache, ports, parts: ["postgres", "redis"] })

      yield* Effect.scoped(Effect.gen(function*() {
        const stack = yield* start
        yield* query(stack.databaseUrl!, "CREATE TABLE kept AS SELECT 1 AS one")
        yield* withRedis(stack.redisUrl!, (redis) => redis.set("key", "kept"))
        for (const attempt of [Effect.scoped(start), Holder.reset(folder)]) {
          const error = yield* Effect.flip(attempt)
          assert.include(error.message, `is in use by process ${process.pid}`)
          assert.include(error.wayOut, "payments local down")
        }
      }))
      assert.isTrue(Option.isNone((yield* Holder.status(folder)).holder))

      yield* Effect.scoped(Effect.gen(function*() {
        const stack = yield* start
        assert.deepStrictEqual((yield* query(stack.databaseUrl!, "SELECT one FROM kept")).rows, [{ one: 1 }])
        assert.strictEqual(yield* withRedis(stack.redisUrl!, (redis) => redis.get("key")), "kept")
      }))

      yield* Holder.reset(folder)
      assert.deepStrictEqual(yield* fs.readDirectory(folder), [])
    }), 30_000)

  it.scoped("a port in use is an error with the variable that changes it", () =>
    Effect.gen(function*() {
      const folder = yield* freshFolder
      const other = yield* Effect.acquireRelease(
        Effect.async<ReturnType<typeof createServer>>((resume) => {
          const server = createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void)))
      )
      const { port } = other.address() as AddressInfo
      const error = yield* Effect.flip(Stack.start({ folder, cache, ports: { ...ports, redis: port } }))
      assert.strictEqual(error.part, "redis")
      assert.include(error.message, `port ${port} is in use`)
      assert.include(error.message, "LOCAL_REDIS_PORT=")
      assert.isTrue(Option.isNone(yield* StackFile.read(folder)))
    }))

  it.scoped("a start that fails halfway leaves nothing running", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* freshFolder
      const redis = yield* Deferred.make<number>()
      yield* fs.makeDirectory(`${folder}/postgres/data`, { recursive: true })
      yield* fs.writeFileString(`${folder}/postgres/data/PG_VERSION`, "9\n")
      const error = yield* Effect.flip(Stack.start({
        folder,
        cache,
        ports,
        parts: ["redis", "postgres"],
        onProgress: ({ part, step }) =>
          part === "redis" && step === "ready"
            ? Holder.status(folder).pipe(
              Effect.provide(NodeContext.layer),
              Effect.flatMap(({ parts }) => Deferred.succeed(redis, parts[0]!.pid))
            )
            // PostgreSQL fails only after Redis runs
            : part === "postgres"
            ? Effect.asVoid(Deferred.await(redis))
            : Effect.void
      }))
      assert.include(error.message, "belongs to PostgreSQL 9")
      assert.include(error.wayOut, "payments local reset")
      assert.deepStrictEqual(yield* Identity.of(yield* Deferred.await(redis)), Option.none())
      assert.isTrue(Option.isNone(yield* StackFile.read(folder)))
    }))

  it.scoped("Redis starts without a file that it cannot read, and keeps the file", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* freshFolder
      yield* fs.makeDirectory(`${folder}/redis/data`, { recursive: true })
      yield* fs.writeFileString(`${folder}/redis/data/appendonly.aof`, "no such command\r\n")
      const stack = yield* Stack.start({ folder, cache, ports, parts: ["redis"] })
      assert.strictEqual(yield* withRedis(stack.redisUrl!, (redis) => redis.ping()), "PONG")
      const aside = (yield* fs.readDirectory(`${folder}/redis`)).find((name) => name.startsWith("data-damaged-"))
      assert.strictEqual(yield* fs.readFileString(`${folder}/redis/${aside}/appendonly.aof`), "no such command\r\n")
    }))

  it.scoped("a server that dies is an error with its log, before and after its first answer", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* freshFolder
      const start = Stack.start({ folder, cache, ports, parts: ["redis"], throwaway: true })
      // a folder in place of its file
      yield* fs.makeDirectory(`${folder}/redis/data/appendonly.aof`, { recursive: true })
      const { message, wayOut } = yield* Effect.flip(Effect.scoped(start))
      assert.match(message, /append-only file/)
      assert.match(wayOut, /the data is kept.*To delete the data.*payments local reset/s)

      yield* fs.remove(`${folder}/redis`, { recursive: true, force: true })
      const stack = yield* start
      yield* Effect.sync(() => process.kill(stack.parts.redis!.pid, "SIGKILL"))
      assert.include((yield* Effect.flip(stack.ended)).message, "Ready to accept connections")
    }))

  it.scoped("servers of a dead holder are stopped, and no other process", () =>
    Effect.gen(function*() {
      const folder = yield* freshFolder
      const orphan = yield* sleeper
      const stranger = yield* sleeper
      // the same pid with another start time is another process
      yield* StackFile.replace(folder, contents(nobody(stranger), orphan, nobody(stranger)))
      yield* Stack.start({ folder, cache, ports, parts: [] })
      assert.isFalse(yield* Identity.runs(orphan))
      assert.isTrue(yield* Identity.runs(stranger))
    }))

  it.scoped("down stops the holder and waits for its end", () =>
    Effect.gen(function*() {
      const folder = yield* freshFolder
      assert.strictEqual(yield* Holder.down(folder), "not-running")
      const holder = yield* sleeper
      yield* StackFile.replace(folder, contents(holder))
      assert.strictEqual(yield* Holder.down(folder), "stopped")
      assert.isFalse(yield* Identity.runs(holder))

      const stranger = yield* sleeper
      yield* StackFile.replace(folder, contents(nobody(stranger)))
      assert.strictEqual(yield* Holder.down(folder), "cleaned-up")
      assert.isTrue(yield* Identity.runs(stranger))
      assert.isTrue(Option.isNone(yield* StackFile.read(folder)))
    }))
})
