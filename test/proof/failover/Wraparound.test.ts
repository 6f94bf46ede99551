import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { existsSync, realpathSync, statSync, writeFileSync } from "node:fs"
import { dirname } from "node:path"
import { eventually } from "../../harness/Eventually.js"
import * as Program from "../../harness/Program.js"
import * as Restartable from "../../harness/Restartable.js"
import * as Versions from "../long/Versions.js"
import * as Saga from "../Saga.js"
import * as Standby from "./Standby.js"

const limit = 300_000

const migration = Versions.migrations.at(-1)!
const before = Versions.before(migration)

/** An order that waits for its caller. */
const waiting = 1_000_000

const tools = (() => {
  try {
    return dirname(realpathSync(execFileSync("which", ["postgres"], { encoding: "utf8" }).trim()))
  } catch {
    // the package of npm lacks pg_resetwal
    return ""
  }
})()

/** Uses up transaction ids. */
const burn = (url: string, ids: number) =>
  Standby.session(url, async (client) => {
    await client.query("SET synchronous_commit = off")
    await client.query(`DO $$ BEGIN FOR n IN 1..${ids} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`)
  })

const vacuums = (url: string) =>
  Standby.statement(
    url,
    `SELECT pid FROM pg_stat_activity
     WHERE backend_type = 'autovacuum worker' AND query LIKE '%public.payment (to prevent wraparound)'`
  )

describe("P1 P2 P9 P12: transaction ids run out", () => {
  it.scopedLive.skipIf("reason" in before)(
    "a vacuum to prevent wraparound holds a table for long, and a migration waits for it: calls go on",
    () =>
      Effect.gen(function*() {
        const old = yield* Versions.compiled(before as Versions.Version)
        const postgres = yield* Restartable.make("postgres")
        yield* Standby.statement(postgres.url, "ALTER SYSTEM SET autovacuum_naptime = '1s'")
        yield* Standby.statement(postgres.url, "SELECT pg_reload_conf()")
        const saga = yield* Saga.make({ servers: { databaseUrl: postgres.url } })
        yield* saga.serve([], {}, { main: old, whenReady: true })
        const { query } = saga.tables
        // pages enough for a slow vacuum
        yield* query(
          `WITH paid AS (
             INSERT INTO payment (order_id, status) SELECT n, 'CREATED' FROM generate_series(1000001, 1020000) AS n
           )
           INSERT INTO event (topic, order_id, payload)
           SELECT $1, n, format('{"idempotent_key":"%s","order_id":%s,"status":"CREATED"}', gen_random_uuid(), n)
           FROM generate_series(1000001, 1020000) AS n`,
          [saga.world.payment]
        )
        const slow = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
        yield* query(
          `ALTER TABLE payment SET (autovacuum_freeze_max_age = 100000, autovacuum_freeze_min_age = 0, ${slow})`
        )
        yield* query("ALTER TABLE event SET (autovacuum_freeze_max_age = 100000, autovacuum_freeze_min_age = 0)")
        yield* burn(postgres.url, 101_000)
        yield* saga.outlives(
          Effect.gen(function*() {
            yield* Effect.tap(vacuums(postgres.url), (rows) => assert.lengthOf(rows, 1, "no vacuum yet")).pipe(
              eventually("60 seconds")
            )
            const migrating = yield* Program.start(["migrate"], saga.world.env)
            yield* query<{ readonly n: number }>(
              "SELECT count(*)::int AS n FROM pg_locks WHERE NOT granted AND relation = 'payment'::regclass"
            ).pipe(
              Effect.tap(([row]) => Effect.sync(() => assert.isAbove(row!.n, 0, "the migration does not wait"))),
              eventually()
            )
            yield* saga.more(100)
            const [vacuum] = yield* vacuums(postgres.url)
            assert.isDefined(vacuum, "the calls waited for the vacuum")
            const columns = query(
              "SELECT FROM pg_attribute WHERE attrelid = 'payment'::regclass AND attname = 'settled_by'"
            )
            assert.isEmpty(yield* columns)
            // the operator lets it run fast
            const fast = yield* Effect.fork(
              query("ALTER TABLE payment RESET (autovacuum_vacuum_cost_delay, autovacuum_vacuum_cost_limit)")
            )
            yield* Standby.statement(postgres.url, `SELECT pg_terminate_backend(${String(vacuum!["pid"])})`)
            yield* fast.await
            const { code } = yield* Effect.timeout(migrating.ended, "60 seconds")
            assert.strictEqual(code, 0, migrating.stderr())
            assert.lengthOf(yield* columns, 1)
            yield* saga.serve([], { MIGRATE_ON_START: "false" }, { whenReady: true })
            const frozen =
              "SELECT max(age(relfrozenxid)) < 100000 AS yes FROM pg_class WHERE relname IN ('payment', 'event')"
            yield* Effect.tap(
              query<{ readonly yes: boolean }>(frozen),
              ([row]) => Effect.sync(() => assert.isTrue(row!.yes, "not frozen"))
            ).pipe(eventually("60 seconds"))
          }),
          Saga.noResends
        )
      }),
    limit
  )

  it.scopedLive.skipIf(!existsSync(`${tools}/pg_resetwal`))(
    "the server refuses new transaction ids: callers wait, and an operator vacuums",
    () =>
      Effect.gen(function*() {
        const postgres = yield* Restartable.make("postgres")
        // autovacuum has to freeze template0, because no client can connect to it
        yield* Standby.statement(postgres.url, "ALTER SYSTEM SET autovacuum_naptime = '1s'")
        yield* Standby.statement(postgres.url, "SELECT pg_reload_conf()")
        const saga = yield* Saga.make({ servers: { databaseUrl: postgres.url }, env: { OUTBOX_LEASE: "5s" } })
        const program = yield* saga.serve()
        yield* program.untilReady
        yield* saga.reserved(waiting)
        yield* saga.outlives(Effect.gen(function*() {
          // no vacuum can get past what its readers need
          yield* Standby.gone(postgres.url)
          yield* postgres.stop
          const { gid, uid } = statSync(postgres.data)
          const asOwner = { encoding: "utf8", uid, gid } as const
          const control = execFileSync(`${tools}/pg_controldata`, ["-D", postgres.data], asOwner)
          const oldest = Number(/oldestXID:\s+(\d+)/.exec(control)![1])
          // so many are left until the server refuses: see SetTransactionIdLimit of PostgreSQL
          const next = oldest + 2 ** 31 - 1 - 3_000_000 - 300
          execFileSync(`${tools}/pg_resetwal`, ["-x", String(next), postgres.data], asOwner)
          const segment = `${postgres.data}/pg_xact/${
            Math.floor(next / 2 ** 20).toString(16).toUpperCase().padStart(4, "0")
          }`
          writeFileSync(segment, Buffer.alloc(2 ** 18))
          execFileSync("chown", [`${uid}:${gid}`, segment])
          yield* postgres.start
          yield* Effect.sync(() =>
            assert.match(
              program.stderr(),
              /waiting for postgres.*is not accepting commands to avoid wraparound data loss/
            )
          ).pipe(eventually("60 seconds"))
          // no order begins meanwhile, so callers may have nothing to settle
          assert.match(yield* saga.ask(waiting), /^UNAVAILABLE/)
          yield* Effect.tap(program.readiness, ({ dependencies, ready }) => {
            assert.isFalse(ready)
            assert.match(JSON.stringify(dependencies), /to avoid wraparound data loss/)
          }).pipe(eventually())
          const vacuum = Standby.session(postgres.url, async (client) => {
            const databases = (await client.query("SELECT datname FROM pg_database WHERE datallowconn")).rows
            return databases.map(({ datname }) => datname as string)
          }).pipe(
            Effect.flatMap(
              Effect.forEach((name) =>
                Standby.statement(postgres.url.replace(/\/payments$/, `/${name}`), "VACUUM (FREEZE)")
              )
            )
          )
          yield* vacuum
          yield* Effect.flip(Effect.sandbox(Standby.statement(postgres.url, "SELECT pg_current_xact_id()")))
          const doctor = yield* Program.run(["doctor"], saga.world.env)
          // red when the doctor does not ask for slots
          assert.match(doctor.stdout, /replication slot gone, which no standby reads, for 2\d{9} transactions/)
          yield* Saga.repair(
            [saga],
            Effect.zipRight(Standby.statement(postgres.url, "SELECT pg_drop_replication_slot('gone')"), vacuum)
          )
          yield* saga.more()
          assert.strictEqual(yield* saga.ask(waiting), "OK")
        }))
      }),
    limit
  )
})
