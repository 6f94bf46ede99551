import { NodeContext } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { assert, describe, it, layer } from "@effect/vitest"
import { Clock, ConfigProvider, Deferred, Effect, Either, Fiber, Layer, Logger, Option, Redacted } from "effect"
import { Redis } from "ioredis"
import { randomUUID } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { inject } from "vitest"
import { migrations } from "../../src/cli/Prepare.js"
import type { Config } from "../../src/cli/Services.js"
import * as Services from "../../src/cli/Services.js"
import { readSettings } from "../../src/Config.js"
import * as Clocks from "../../src/doctor/Clocks.js"
import * as Doctor from "../../src/doctor/Doctor.js"
import type { Result } from "../../src/doctor/Finding.js"
import * as RedisServer from "../../src/doctor/RedisServer.js"
import * as Report from "../../src/doctor/Report.js"
import * as Sessions from "../../src/doctor/Sessions.js"
import * as Topics from "../../src/doctor/Topics.js"
import * as Migrations from "../../src/infra/postgres/Migrations.js"
import * as Postgres from "../../src/infra/postgres/Postgres.js"
import * as RedisDescription from "../../src/infra/redis/RedisDescription.js"
import type { Role } from "../../src/ops/Parts.js"
import { roles } from "../../src/ops/Parts.js"
import { Sequences } from "../../src/payments/Sequences.js"
import { eventually } from "../harness/Eventually.js"
import * as KafkaTest from "../harness/KafkaTest.js"
import * as PgTest from "../harness/PgTest.js"
import * as Restartable from "../harness/Restartable.js"

/** The doctor's answer for a process with this environment, on the servers of the test run. */
const examine = Effect.fnUntraced(function*(
  env: Readonly<Record<string, string>>,
  how: typeof Doctor.examine | typeof Doctor.glance = Doctor.examine,
  parts: ReadonlyArray<Role> = roles
) {
  const config = (yield* Effect.withConfigProvider(
    readSettings(...Services.settingsOf(parts)),
    ConfigProvider.fromMap(new Map(Object.entries({ ...world(), ...env })))
  )) as Config
  return yield* how(Services.doctorOptions(config, parts)).pipe(
    Effect.provide(Layer.mergeAll(
      Layer.provideMerge(Sequences.Default, Postgres.layer({ url: config.databaseUrl, maxConnections: 2 })),
      NodeContext.layer
    ))
  )
})

const world = () => ({ REDIS_URL: inject("redisUrl"), KAFKA_BROKERS: inject("kafkaBrokers") })

const statesOf = (results: ReadonlyArray<Result>, state: Result["state"]) =>
  results.filter((result) => result.state === state)

/** Asserts that the only findings are these checks, and returns what they say. */
const finds = (results: ReadonlyArray<Result>, ...checks: ReadonlyArray<string>) => {
  const findings = statesOf(results, "finding")
  assert.deepStrictEqual(findings.map(({ check }) => check).sort(), [...checks].sort())
  return Object.fromEntries(findings.map((finding) => [finding.check, finding]))
}

/** The text of a result: numbers, consequence and remedy. */
const says = ({ fault, found }: Result) => `${found} | ${fault?.consequence} | ${fault?.remedy}`

const topics = Effect.gen(function*() {
  const [inventory, dlq, payment] = yield* Effect.all([
    KafkaTest.freshTopic(),
    KafkaTest.freshTopic({ "max.message.bytes": String(2 * 1024 * 1024) }),
    KafkaTest.freshTopic()
  ], { concurrency: "unbounded" })
  return {
    INVENTORY_TOPIC: inventory,
    INVENTORY_DLQ_TOPIC: dlq,
    PAYMENT_TOPIC: payment,
    KAFKA_GROUP_ID: `group-${inventory}`
  }
})

const on = (url: string) => Postgres.layer({ url: Redacted.make(url), maxConnections: 2 })
const withOptions = (url: string, ...options: ReadonlyArray<string>) => {
  const changed = new URL(url)
  changed.search = `options=${encodeURIComponent(options.map((_) => `-c ${_}`).join(" "))}`
  return changed.href
}

/** A role of this database without rights, and the URL by which it comes. */
const stranger = Effect.fnUntraced(function*(url: string) {
  const name = `role_${randomUUID().slice(0, 8)}`
  yield* Effect.acquireRelease(
    PgTest.admin(`CREATE ROLE ${name} LOGIN PASSWORD 'hush' CONNECTION LIMIT 7`),
    () => PgTest.admin(`DROP OWNED BY ${name}; DROP ROLE ${name}`)
  )
  yield* Effect.addFinalizer(() =>
    Effect.provide(
      Effect.flatMap(SqlClient.SqlClient, (sql) => Effect.ignore(sql.unsafe(`DROP OWNED BY ${name}`))),
      on(url)
    )
  )
  const own = new URL(url)
  own.username = name
  own.password = "hush"
  return { name, url: own.href }
})

layer(PgTest.layer, { timeout: "60 seconds", excludeTestServices: true })("Doctor", (it) => {
  it.effect("has no finding on a clean stack, and reads every value", () =>
    Effect.gen(function*() {
      const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl, PAYMENT_EXPIRY: "1h" }
      const diagnosis = yield* examine(env)
      finds(diagnosis.results)
      assert.deepStrictEqual(statesOf(diagnosis.results, "not_checked"), [])
      assert.isEmpty(diagnosis.failures)
      assert.isUndefined(Report.verdict(diagnosis))
      const summary = Report.documents(diagnosis).at(-1)
      assert.deepInclude(summary, { clean: true, findings: 0, not_checked: 0, ok: diagnosis.results.length })
      for (const place of ["Settings", "PostgreSQL", "Kafka", "Redis", "Clocks"]) {
        assert.include(Report.text(diagnosis), `${place}\n  ok`)
      }
    }))

  it.effect("topics: each wrong setting is a finding with its numbers and a remedy", () =>
    Effect.gen(function*() {
      const [inventory, dlq, payment] = yield* Effect.all([
        KafkaTest.freshTopic({ "retention.ms": "3600000" }),
        KafkaTest.freshTopic(),
        KafkaTest.freshTopic({ "cleanup.policy": "compact", "max.message.bytes": "100000", "min.insync.replicas": "2" })
      ], { concurrency: "unbounded" })
      const url = yield* PgTest.DatabaseUrl
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql`INSERT INTO outbox_topic (topic, generation, partitions) VALUES (${payment}, 0, 4), (${payment}, 1, 12)`)
      const env = {
        INVENTORY_TOPIC: inventory,
        INVENTORY_DLQ_TOPIC: dlq,
        PAYMENT_TOPIC: payment,
        DATABASE_URL: url
      }
      const { results } = yield* examine(env, Doctor.glance)
      const found = finds(
        results,
        "topic.retention",
        "topic.max_message",
        "topic.max_message",
        "topic.cleanup",
        "topic.min_insync",
        "topic.partitions"
      )
      assert.match(
        says(found["topic.retention"]!),
        new RegExp(`${inventory}.*3600000 \\(1h\\).*away for longer than 1h`)
      )
      assert.match(says(found["topic.cleanup"]!), new RegExp(`${payment}.*compact.*cleanup.policy=delete`))
      assert.match(says(found["topic.min_insync"]!), /is 2 of 1 replicas, 1 in sync.*NOT_ENOUGH_REPLICAS/)
      assert.match(says(found["topic.partitions"]!), /has 4 partitions, and payments were spread over 12/)
      const sizes = results.filter(({ check, state }) =>
        check === "topic.max_message" && state === "finding"
      ).map(says)
      assert.match(sizes.join("\n"), /1048588 .*1052684.*dead letters/)
      assert.match(sizes.join("\n"), /100000 .*500 events takes up to 160000.*max\.message\.bytes=160000/)
    }))

  it.effect("a missing topic is a finding where the service must not create it, and not checked elsewhere", () =>
    Effect.gen(function*() {
      const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl, INVENTORY_TOPIC: `none-${randomUUID()}` }
      const { results } = yield* examine(env, Doctor.glance)
      finds(results)
      assert.deepStrictEqual(statesOf(results, "not_checked").map(({ check }) => check), ["topic.exists"])
      const strict = yield* examine({ ...env, KAFKA_CREATE_TOPICS: "false" }, Doctor.glance)
      assert.match(says(finds(strict.results, "topic.exists")["topic.exists"]!), /KAFKA_CREATE_TOPICS=true/)
    }))

  it.effect("times of the settings, and of the brokers", () =>
    Effect.gen(function*() {
      const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl }
      const short = yield* examine({
        ...env,
        OUTBOX_LEASE: "5s",
        SHUTDOWN_TIMEOUT: "10s",
        OUTBOX_POLL_INTERVAL: "6s",
        DEDUPE_TTL: "20s",
        OUTBOX_RETENTION: "1h",
        PAYMENT_EXPIRY: "1m",
        KAFKA_SESSION_TIMEOUT: "31m"
      }, Doctor.glance)
      const found = finds(
        short.results,
        "times.lease",
        "times.drain",
        "times.poll",
        "times.dedupe",
        "times.retention",
        "group.session"
      )
      assert.match(
        says(found["times.drain"]!),
        /gives work in hand 7s of SHUTDOWN_TIMEOUT 10s.*due after OUTBOX_LEASE \(5s\)/
      )
      assert.match(says(found["group.session"]!), /is 31m; the brokers take 6s to 30m.*INVALID_SESSION_TIMEOUT/)
      const long = yield* examine({
        ...env,
        OUTBOX_DELIVERY: "exactly-once",
        OUTBOX_LEASE: "20m",
        OUTBOX_BATCH_SIZE: "100",
        PAYMENT_EXPIRY: "30m"
      }, Doctor.glance)
      finds(long.results, "transactions.timeout", "times.expiry")
    }))

  it.scoped("Redis: memory, policy and role", () =>
    Effect.gen(function*() {
      const { url } = yield* Restartable.make("redis")
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (redis) => Effect.sync(() => redis.disconnect())
      )
      const command = (name: string, ...args: ReadonlyArray<string>) => Effect.promise(() => redis.call(name, ...args))
      const look = (at = url) => RedisDescription.describe({ url: Redacted.make(at) })
      const check = Effect.map(look(), (description) => RedisServer.check(Either.getOrThrow(description)))
      finds(yield* check)
      yield* command("CONFIG", "SET", "maxmemory", "100mb")
      finds(yield* check, "redis.policy")
      yield* command("CONFIG", "SET", "maxmemory", "900kb")
      const found = finds(yield* check, "redis.policy", "redis.memory")
      assert.match(says(found["redis.memory"]!), /uses [\d.]+ (KiB|MiB) of 900\.0 KiB \(maxmemory\).*at \d+ %/)
      yield* command("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
      finds(yield* check)
      yield* command("REPLICAOF", "127.0.0.1", "1")
      assert.match(says(finds(yield* check, "redis.role")["redis.role"]!), /is a slave.*READONLY/)
      yield* command("ACL", "SETUSER", "blind", "on", ">hush", "~*", "+time")
      const blind = url.replace("redis://", "redis://blind:hush@")
      assert.match(Either.flip(yield* look(blind)).pipe(Either.getOrThrow), /^NOPERM/)
      const away = yield* Effect.flip(look("redis://127.0.0.1:1"))
      assert.match((away.cause as Error).message, /ECONNREFUSED/)
    }))

  it.scoped("PostgreSQL: settings of the server, the database, the URL and the tables", () =>
    Effect.gen(function*() {
      const env = yield* topics
      const url = yield* PgTest.freshDatabase
      const name = new URL(url).pathname.slice(1)
      const look = (at = url, how: typeof Doctor.examine | typeof Doctor.glance = Doctor.examine) =>
        Effect.map(examine({ ...env, DATABASE_URL: at }, how, ["grpc"]), ({ results }) => results)
      const sql = (statement: string) =>
        Effect.provide(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)), on(url))

      const empty = yield* look()
      assert.match(
        says(finds(empty, "postgresql.migrations")["postgresql.migrations"]!),
        /0007_expiry|expiry.*payments migrate/
      )
      assert.deepStrictEqual(
        statesOf(empty, "not_checked").map(({ check }) => check),
        ["postgresql.rights", "postgresql.indexes", "postgresql.sequences"]
      )
      yield* Effect.provide(Migrations.migrate(migrations), Layer.merge(on(url), NodeContext.layer))
      finds(yield* look())

      yield* sql(`
        DROP INDEX event_waiting; ALTER TABLE payment DROP CONSTRAINT payment_inventory_key_key;
        ALTER TABLE event SET (autovacuum_enabled = false);
        INSERT INTO payment (id, order_id, status) SELECT n, n, 'CREATED' FROM generate_series(1, 40) AS n
      `)
      const broken = finds(
        yield* look(),
        "postgresql.indexes",
        "postgresql.autovacuum",
        "postgresql.sequences"
      )
      assert.match(
        says(broken["postgresql.indexes"]!),
        /no valid unique index on payment \(inventory_key\), no valid index event_waiting .*CREATE INDEX CONCURRENTLY event_waiting ON event/
      )
      assert.match(
        says(broken["postgresql.sequences"]!),
        /next id of table payment is 1 \(payment_id_seq\): 40 ids behind.*setval/
      )
      yield* sql(`
        CREATE INDEX event_waiting ON event (id) WHERE status = 'WAIT'; ALTER TABLE payment ADD UNIQUE (inventory_key);
        ALTER TABLE event RESET (autovacuum_enabled); SELECT setval('payment_id_seq', 40)
      `)

      const overridden = withOptions(
        url,
        "default_transaction_isolation=serializable",
        "TimeZone=Asia/Tokyo",
        "DateStyle=German",
        "synchronous_commit=off"
      )
      const session = finds(yield* look(overridden, Doctor.glance), "postgresql.session", "postgresql.durability")
      assert.match(
        says(session["postgresql.session"]!),
        /isolation is serializable, not read committed; DateStyle is German, DMY, not ISO, MDY; TimeZone is Asia\/Tokyo, not UTC/
      )
      yield* PgTest.admin(`ALTER DATABASE ${name} SET default_transaction_read_only = on`)
      yield* PgTest.admin(`ALTER DATABASE ${name} CONNECTION LIMIT 10`)
      const limited = finds(yield* look(url, Doctor.glance), "postgresql.writable", "postgresql.connections")
      assert.match(
        says(limited["postgresql.connections"]!),
        /up to 11 connections \(DATABASE_POOL_SIZE 10\); CONNECTION LIMIT 10 of the database.*DATABASE_POOL_SIZE to 9/
      )
      yield* PgTest.admin(`ALTER DATABASE ${name} RESET default_transaction_read_only`)
      yield* PgTest.admin(`ALTER DATABASE ${name} CONNECTION LIMIT -1`)

      const role = yield* stranger(url)
      yield* sql(`GRANT SELECT ON payments_migrations, outbox_shard TO ${role.name}`)
      // a session of another role, whose transactions this role may not see
      yield* Effect.scoped(Effect.gen(function*() {
        const other = yield* Layer.build(on(url))
        yield* Effect.provide(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1`), other)
        const results = yield* look(role.url)
        const found = finds(results, "postgresql.rights", "postgresql.connections")
        assert.match(
          says(found["postgresql.rights"]!),
          new RegExp(`GRANT INSERT, .* ON event TO ${role.name}|lacks .* on table payment`)
        )
        assert.match(says(found["postgresql.connections"]!), /CONNECTION LIMIT 7 of the role/)
        const hidden = statesOf(results, "not_checked")
        assert.deepStrictEqual(hidden.map(({ check }) => check), ["postgresql.transactions", "postgresql.sequences"])
        assert.match(hidden[1]!.found, /permission denied for/)
        assert.match(
          hidden[0]!.found,
          new RegExp(`[1-9] sessions of other roles \\(GRANT pg_read_all_stats TO ${role.name}\\)`)
        )
      }))
    }))

  it.scoped("a long transaction is a finding with its pid and age", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const begun = yield* Deferred.make<number>()
      const end = yield* Deferred.make<void>()
      const holder = yield* sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`.pipe(
        Effect.flatMap(([row]) => Deferred.succeed(begun, row!.pid)),
        Effect.zipRight(Deferred.await(end)),
        sql.withTransaction,
        Effect.forkScoped
      )
      const pid = yield* Deferred.await(begun)
      finds(yield* Sessions.checkTransactions("1 minute"))
      const found = finds(yield* Sessions.checkTransactions("0 millis"), "postgresql.transactions")
      assert.match(
        says(found["postgresql.transactions"]!),
        new RegExp(`pid ${pid} of \\w+ \\(idle in transaction\\) for 0 s.*pg_terminate_backend\\(${pid}\\)`)
      )
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(holder)
    }))

  it.scoped("a transaction that locks a table is a finding at once, while checks of the table wait for it", () =>
    Effect.gen(function*() {
      const url = yield* PgTest.DatabaseUrl
      const sql = yield* SqlClient.SqlClient
      const begun = yield* Deferred.make<number>()
      const end = yield* Deferred.make<void>()
      const holder = yield* sql<{ readonly pid: number }>`SELECT pg_backend_pid() AS pid`.pipe(
        Effect.zipLeft(sql`LOCK TABLE payment, event`),
        Effect.flatMap(([row]) => Deferred.succeed(begun, row!.pid)),
        Effect.zipRight(Deferred.await(end)),
        sql.withTransaction,
        Effect.forkScoped
      )
      const pid = yield* Deferred.await(begun)
      const waiter = yield* sql`SELECT FROM payment LIMIT 1`.pipe(Effect.forkScoped)
      const found = yield* Sessions.checkTransactions().pipe(
        Effect.map((results) => finds(results, "postgresql.transactions")["postgresql.transactions"]!),
        eventually("10 seconds")
      )
      assert.match(
        says(found),
        new RegExp(`pid ${pid} of .*, 1 sessions wait for its locks.*pg_terminate_backend\\(${pid}\\)`)
      )
      const { results } = yield* examine({ ...yield* topics, DATABASE_URL: url })
      assert.include(statesOf(results, "not_checked").map(({ check }) => check), "postgresql.tables")
      assert.include(statesOf(results, "finding").map(({ check }) => check), "postgresql.transactions")
      yield* Deferred.succeed(end, undefined)
      yield* Fiber.join(holder)
      yield* Fiber.join(waiter)
    }))

  it.effect("the clocks of all three servers are compared with ours", () =>
    Effect.gen(function*() {
      const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl }
      const clock = yield* Effect.clock
      const minute = 60_000
      const ahead: Clock.Clock = {
        ...clock,
        [Clock.ClockTypeId]: Clock.ClockTypeId,
        unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + minute,
        currentTimeMillis: Effect.map(clock.currentTimeMillis, (now) => now + minute),
        unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
        currentTimeNanos: clock.currentTimeNanos,
        sleep: (duration) => clock.sleep(duration)
      }
      const { results } = yield* Effect.withClock(examine(env), ahead)
      const found = finds(results, "clocks.postgresql", "clocks.redis", "clocks.kafka")
      for (const result of Object.values(found)) {
        assert.match(result.found, /^the clock of this host is (59|60)\.\d\d s ahead of /)
      }
    }))

  it.effect("a server that does not answer is not checked, and the others are", () =>
    Effect.gen(function*() {
      const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl }
      const { failures, results } = yield* examine({ ...env, REDIS_URL: "redis://127.0.0.1:1" })
      assert.deepStrictEqual(failures.map(({ _tag }) => _tag), ["RedisUnavailable"])
      const [away] = statesOf(results, "not_checked")
      assert.deepInclude(away, { check: "redis.reachable", place: "redis" })
      assert.match(away!.found, /ECONNREFUSED/)
      assert.isAbove(statesOf(results, "ok").length, 20)
    }))

  it.effect.each(roles)(
    "the checks of the start run to their end in a process with the role %s alone",
    (role) =>
      Effect.gen(function*() {
        const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl }
        const { failures, results } = yield* examine(env, Doctor.glance, [role])
        finds(results)
        assert.isEmpty(failures)
      })
  )

  it.effect("the start logs each finding of the cheap checks once, with consequence and remedy", () =>
    Effect.gen(function*() {
      const env = { ...yield* topics, DATABASE_URL: yield* PgTest.DatabaseUrl, OUTBOX_LEASE: "5s" }
      const lines: Array<string> = []
      const warn = (options: Doctor.DoctorOptions) =>
        Effect.as(Doctor.warn(options), { results: [], failures: [] } satisfies Doctor.Diagnosis)
      yield* examine(env, warn as typeof Doctor.glance).pipe(
        Effect.provide(Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ logLevel, message }) => void lines.push(`${logLevel.label} ${[message].flat().join(" ")}`))
        ))
      )
      assert.lengthOf(lines, 1)
      assert.match(lines[0]!, /^WARN OUTBOX_LEASE is 5s; .*: while the database .*; set OUTBOX_LEASE to 20s or more$/)
    }))
})

describe("checks", () => {
  const settings = Either.right(new Map([["min.insync.replicas", "2"], ["cleanup.policy", "delete"]]))
  const config = {
    inventoryTopic: "inventory",
    inventoryDlqTopic: "inventory.dlq",
    paymentTopic: "payment",
    kafkaCreateTopics: true,
    outboxBatchSize: 500,
    outboxDelivery: "at-least-once" as const
  }
  const topic = (replicas: number, inSync: number, leader = 1) =>
    Topics.check({ config, topics: ["inventory"], spread: Option.none() }, {
      brokers: 3,
      broker: settings,
      group: undefined,
      topics: [{ topic: "inventory", settings, partitions: [{ id: 0, leader, replicas, inSync }] }]
    })

  it("copies of a topic in a cluster", () => {
    finds(topic(3, 3))
    finds(topic(1, 1), "topic.replication", "topic.min_insync")
    assert.match(says(finds(topic(3, 2), "topic.replication")["topic.replication"]!), /1 of them not in sync/)
    finds(topic(3, 1), "topic.replication", "topic.min_insync")
    finds(topic(2, 2), "topic.min_insync")
    assert.match(
      says(finds(topic(3, 3, -1), "topic.replication")["topic.replication"]!),
      /partitions 0 can be neither read nor written/
    )
  })

  it("a clock that a server does not tell is not checked", () => {
    assert.strictEqual(Clocks.check("kafka", Either.left("CLUSTER_AUTHORIZATION_FAILED")).state, "not_checked")
  })

  it("docs/operations.md lists every check, and no other", () => {
    const name = /"((?:topic|group|transactions|redis|postgresql|times)\.[a-z_]+)"/g
    const source = readdirSync("src/doctor").map((file) => readFileSync(`src/doctor/${file}`, "utf8")).join("\n")
    const known = new Set([...source.matchAll(name)].map(([, check]) => check))
    // reasons why a whole part is not checked
    for (const reason of ["topic.settings", "redis.info"]) known.delete(reason)
    const [, page] = readFileSync("docs/operations.md", "utf8").split("## The doctor")
    const listed = [
      ...page!.split("\n## ")[0]!.matchAll(/`((?:topic|group|transactions|redis|postgresql|times)\.[a-z_]+)`/g)
    ]
    assert.sameMembers(listed.map(([, check]) => check!), [...known].map(String))
    assert.isAbove(known.size, 25)
  })
})
