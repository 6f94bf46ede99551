import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import * as Net from "node:net"
import * as Calls from "../harness/Calls.js"
import { eventually } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as Program from "../harness/Program.js"
import * as Tables from "../harness/Tables.js"
import * as Topics from "../harness/Topics.js"
import * as World from "../harness/World.js"

/** Ends when /readyz has this status. Returns its body. */
const untilStatus = (program: Program.Services, status: number) =>
  program.get("/readyz").pipe(
    Effect.tap((answer) => assert.strictEqual(answer.status, status)),
    Effect.zipRight(program.readiness),
    eventually()
  )

/** Ends when the program reports that it waits for this dependency with a reason that contains this text. */
const untilWaitingFor = (program: Program.Services, name: string, reason: RegExp) =>
  untilStatus(program, 503).pipe(
    Effect.tap(({ dependencies }) => {
      assert.isFalse(dependencies[name]?.ok)
      assert.match(dependencies[name]!.reason!, reason)
    }),
    eventually()
  )

const isAlive = (program: Program.Services) =>
  program.get("/livez").pipe(Effect.tap(({ status }) => assert.strictEqual(status, 200)), eventually())

/** Reserves an order, and waits for its payment and its record. */
const orderGoesThrough = Effect.fnUntraced(function*(world: World.World, orderId: number, key: string = randomUUID()) {
  const topics = yield* Topics.make(world.kafkaBrokers)
  const tables = yield* Tables.make(world.databaseUrl)
  yield* topics.write(world.inventory, { value: Topics.reserved(orderId, key) })
  const records = yield* topics.follow(world.payment)
  yield* Effect.sync(() => assert.sameMembers(records.map(({ key }) => String(key)), [String(orderId)])).pipe(
    eventually()
  )
  assert.deepStrictEqual(yield* tables.payments(orderId), [{ order_id: String(orderId), status: "CREATED" }])
})

const listen = (port: number) =>
  Effect.acquireRelease(
    Effect.async<Net.Server>((resume) => {
      const server: Net.Server = Net.createServer().listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

describe.concurrent("a start", { timeout: 120_000 }, () => {
  it.scopedLive("Kafka starts later: alive and not ready until then, without a restart of the program", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const world = yield* World.make({ kafkaBrokers: `localhost:${port}` })
      const program = yield* Program.serve([], world.env)
      yield* isAlive(program)
      yield* untilWaitingFor(program, "inventory-topics", /kafka is not available/)
      yield* World.server("kafka", port)
      yield* program.untilReady
      yield* orderGoesThrough(world, 1)
    }))

  it.scopedLive("PostgreSQL starts later: alive and not ready until then", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const databaseUrl = `postgres://payments:payments@localhost:${port}/payments`
      const world = yield* World.make({ databaseUrl })
      const program = yield* Program.serve([], world.env)
      yield* isAlive(program)
      yield* untilWaitingFor(program, "postgres", /not available/)
      yield* untilWaitingFor(program, "migrations", /database is not available/)
      yield* World.server("postgres", port)
      yield* program.untilReady
      yield* orderGoesThrough(world, 2)
    }))

  it.scopedLive("a database that refuses the role ends the program with the reason, without the password", () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const url = new URL(world.databaseUrl)
      const runs: Record<string, RegExp> = {
        password: /^payments: the database refuses: .* \(SQLSTATE 28P01\): check user and password in DATABASE_URL$/m,
        database: /^payments: the database refuses: .*"nothing" does not exist \(SQLSTATE 3D000\)$/m
      }
      yield* Effect.forEach(Object.entries(runs), ([what, expected]) =>
        Effect.gen(function*() {
          const wrong = new URL(url)
          if (what === "password") wrong.password = "hush-hush"
          else wrong.pathname = "/nothing"
          const env = { ...world.env, DATABASE_URL: wrong.href, HTTP_ADDR: `127.0.0.1:${yield* freePort}` }
          const { code, stderr } = yield* Program.run(["serve", "relay"], env)
          assert.strictEqual(code, 1)
          assert.match(stderr, expected)
          assert.notInclude(stderr, "hush-hush")
        }), { concurrency: "unbounded" })
    }))

  it.scopedLive("without Redis it is ready, works and reports it; when Redis starts, it is used", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      const world = yield* World.make({ redisUrl: `redis://localhost:${port}` })
      const program = yield* Program.serve([], world.env)
      yield* program.untilReady
      const { dependencies } = yield* program.readiness
      assert.deepInclude(dependencies["redis"], { ok: false, required: false })
      yield* orderGoesThrough(world, 3)

      yield* World.server("redis", port)
      yield* program.readiness.pipe(
        Effect.tap(({ dependencies }) => assert.isTrue(dependencies["redis"]!.ok)),
        eventually()
      )
      const key = randomUUID()
      const topics = yield* Topics.make(world.kafkaBrokers)
      yield* topics.write(world.inventory, { value: Topics.reserved(4, key) })
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(world.redisUrl)),
        (redis) => Effect.sync(() => redis.disconnect())
      )
      yield* Effect.promise(() => redis.get(`payments:inventory:${key}`)).pipe(
        Effect.tap((order) => assert.strictEqual(order, "4")),
        eventually()
      )
    }))

  it.scopedLive("with migrations and topic creation off it reports what is missing, and goes on when that exists", () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const env = { ...world.env, MIGRATE_ON_START: "false", KAFKA_CREATE_TOPICS: "false" }
      const program = yield* Program.serve([], env)
      yield* untilWaitingFor(program, "migrations", /payment_and_outbox, .*\(payments migrate\)/)
      yield* untilWaitingFor(program, "inventory-topics", new RegExp(`${world.inventory}, ${world.dlq}`))
      yield* untilWaitingFor(program, "payment-topic", new RegExp(world.payment))
      const topics = yield* Topics.make(world.kafkaBrokers)
      const tables = yield* Tables.make(world.databaseUrl)
      assert.strictEqual(yield* tables.count("pg_tables WHERE schemaname = 'public'"), 0)
      assert.notInclude(yield* topics.existing, world.inventory)

      const migrated = yield* Program.run(["migrate", "--json"], env)
      assert.strictEqual(migrated.code, 0)
      assert.deepStrictEqual(JSON.parse(migrated.stdout), {
        applied: [
          "payment_and_outbox",
          "adopt_and_index",
          "shards",
          "room_on_pages",
          "topic_spread",
          "operation",
          "expiry",
          "settled_by"
        ]
      })
      const { dependencies } = yield* program.readiness.pipe(
        Effect.tap(({ dependencies }) => assert.isTrue(dependencies["migrations"]!.ok)),
        eventually()
      )
      assert.isFalse(dependencies["payment-topic"]!.ok)
      yield* topics.create(world.inventory, world.dlq, world.payment)
      yield* program.untilReady
      yield* orderGoesThrough(world, 5)
    }))

  it.scopedLive("a deleted topic is created again while it runs, and committed events are published there", () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const program = yield* Program.serve([], world.env)
      yield* program.untilReady
      const topics = yield* Topics.make(world.kafkaBrokers)
      yield* topics.remove(world.payment)
      // brokers list a deleted topic for a moment longer
      yield* Effect.sync(() =>
        assert.include(program.stderr(), `topics were deleted and are created again: ${world.payment}`)
      ).pipe(eventually("30 seconds"))
      yield* eventually()(topics.ends(world.payment))
      yield* orderGoesThrough(world, 8)
    }))

  for (const variable of ["GRPC_ADDR", "HTTP_ADDR"]) {
    it.scopedLive(`a port in use ends it with 1 and a line that names ${variable}`, () =>
      Effect.gen(function*() {
        const world = yield* World.make()
        const port = yield* freePort
        yield* listen(port)
        const program = yield* Program.serve([], { ...world.env, [variable]: `127.0.0.1:${port}` })
        const { code } = yield* program.ended.pipe(Effect.timeout("60 seconds"))
        assert.strictEqual(code, 1, program.stderr())
        const [line, ...others] = program.stderr().trimEnd().split("\n").filter((line) => !line.startsWith("{"))
        assert.isEmpty(others)
        assert.include(line, `127.0.0.1:${port} is in use`)
        assert.include(line, variable)
      }))
  }

  it.scopedLive("a bad configuration ends it with 2, and reports all problems at once, without secrets", () =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* Program.run(["serve"], {
        DATABASE_URL: "mysql://payments:hush-hush@localhost/payments",
        REDIS_URL: "hush-hush",
        KAFKA_BROKERS: "nowhere",
        GRPC_ADDR: "8081",
        MIGRATE_ON_START: "yes",
        SHUTDOWN_TIMEOUT: "20",
        OUTBOX_BATCH_SIZE: "0",
        OUTBOX_DELIVERY: "at-most-once"
      })
      assert.strictEqual(code, 2)
      const named = stderr.split("\n").flatMap((line) => /^ {2}([A-Z_]+) .+, e\.g\. \1=\S+$/.exec(line)?.[1] ?? [])
      assert.sameMembers(named, [
        "DATABASE_URL",
        "REDIS_URL",
        "KAFKA_BROKERS",
        "GRPC_ADDR",
        "MIGRATE_ON_START",
        "SHUTDOWN_TIMEOUT",
        "OUTBOX_BATCH_SIZE",
        "OUTBOX_DELIVERY"
      ])
      assert.notInclude(stdout + stderr, "hush-hush")
    }))

  it.scopedLive("an event that one process commits is published by the relay of another, long before its next poll", () =>
    Effect.gen(function*() {
      const world = yield* World.make()
      const env = { ...world.env, OUTBOX_POLL_INTERVAL: "30s" }
      const [server, worker] = yield* Effect.all([
        Program.serve(["grpc"], env),
        Program.serve(["consumer", "relay"], env)
      ])
      yield* Effect.all([server.untilReady, worker.untilReady], { concurrency: 2 })
      const topics = yield* Topics.make(world.kafkaBrokers)
      const tables = yield* Tables.make(world.databaseUrl)
      const calls = yield* Calls.make(server.grpc)
      const records = yield* topics.follow(world.payment)
      const listener = Effect.map(
        tables.query<{ readonly pid: number }>(`
          SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'
        `),
        (rows) => rows.map(({ pid }) => pid)
      )
      /** Reserves and pays an order: two events, one from each process. */
      const promptly = Effect.fnUntraced(function*(orderId: number) {
        yield* topics.write(world.inventory, { value: Topics.reserved(orderId) })
        const statuses = Effect.sync(() =>
          records.filter(({ key }) => String(key) === String(orderId)).map((record) => Topics.body(record).status)
        )
        yield* statuses.pipe(Effect.tap((all) => assert.deepStrictEqual(all, ["CREATED"])), eventually("8 seconds"))
        assert.strictEqual((yield* calls.pay(orderId)).code, "OK")
        yield* statuses.pipe(
          Effect.tap((all) => assert.deepStrictEqual(all, ["CREATED", "COMPLETED"])),
          eventually("8 seconds")
        )
      })
      const [before] = yield* listener.pipe(Effect.tap((pids) => assert.lengthOf(pids, 1)), eventually())
      yield* promptly(6)
      // a broken LISTEN connection is replaced
      yield* tables.query("SELECT pg_terminate_backend($1)", [before])
      yield* listener.pipe(
        Effect.tap((pids) => {
          assert.lengthOf(pids, 1)
          assert.notStrictEqual(pids[0], before)
        }),
        eventually()
      )
      yield* promptly(7)
    }))
})
