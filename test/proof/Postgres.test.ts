import { assert, it, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { eventually } from "../harness/Eventually.js"
import * as Proxy from "../harness/Proxy.js"
import * as Restartable from "../harness/Restartable.js"
import * as Topics from "../harness/Topics.js"
import * as Rival from "./Rival.js"
import * as Saga from "./Saga.js"

const limit = 240_000

/** PostgreSQL of our own, behind a proxy, and services that are ready. */
const make = Effect.gen(function*() {
  const postgres = yield* Restartable.make("postgres")
  const proxy = yield* Proxy.make(postgres.url)
  const saga = yield* Saga.make({ servers: { databaseUrl: postgres.url }, env: { DATABASE_URL: proxy.url } })
  const program = yield* saga.serve()
  yield* program.untilReady
  return { postgres, proxy, saga, program } as const
})

class WithPostgres extends Context.Tag("test/WithPostgres")<WithPostgres, Effect.Effect.Success<typeof make>>() {}

/** Ends when so many calls more were answered that the database is not available. */
const unavailable = (saga: Saga.Saga, times: number) =>
  Effect.suspend(() => {
    const goal = saga.answered("UNAVAILABLE") + times
    return Effect.sync(() => assert.isAtLeast(saga.answered("UNAVAILABLE"), goal)).pipe(eventually("60 seconds"))
  })

/** Who asks for a payment that is there is told that the database is not available, as often as they ask. */
const refused = (saga: Saga.Saga, orderId: number) =>
  Effect.repeatN(Effect.tap(saga.ask(orderId), (answer) => assert.match(answer, /^UNAVAILABLE/)), 2)

/** Lets transactions fail at their COMMIT that write events: those of which `when` is true, in the way of `how`. */
const sabotage = (saga: Saga.Saga, how: string, when = "true") =>
  Effect.acquireRelease(
    saga.tables.query(`
      -- a sequence counts also what is rolled back
      CREATE SEQUENCE sabotaged;
      CREATE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF ${when} THEN
          PERFORM nextval('sabotaged');
          ${how};
        END IF;
        RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER sabotage AFTER INSERT OR UPDATE ON event
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sabotage();
    `),
    () =>
      Effect.ignoreLogged(
        saga.tables.query("DROP TRIGGER sabotage ON event; DROP FUNCTION sabotage(); DROP SEQUENCE sabotaged")
      )
  )

const sabotaged = (saga: Saga.Saga) =>
  Effect.map(
    saga.tables.query<{ readonly n: number }>("SELECT last_value::int AS n FROM sabotaged"),
    ([row]) => row!.n
  )

const ours = "datname = current_database() AND application_name = 'payments'"

/** Ends the sessions of the services. */
const terminate = ({ tables }: Saga.Saga) =>
  tables.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE ${ours}`)

/** Sessions have a setting of the database from their beginning. */
const withSetting = (saga: Saga.Saga, name: string, value: string) => {
  const database = new URL(saga.world.databaseUrl).pathname.slice(1)
  return Effect.acquireRelease(
    Effect.zipRight(saga.tables.query(`ALTER DATABASE ${database} SET ${name} = '${value}'`), terminate(saga)),
    () =>
      Effect.ignoreLogged(
        Effect.zipRight(saga.tables.query(`ALTER DATABASE ${database} RESET ${name}`), terminate(saga))
      )
  )
}

/** A statistic of the database. */
const statistic = ({ tables }: Saga.Saga, name: string) =>
  Effect.map(
    tables.query<{ readonly n: number }>(
      `SELECT ${name}::int AS n FROM pg_stat_database WHERE datname = current_database()`
    ),
    ([row]) => row!.n
  )

const ground = Layer.scoped(WithPostgres, make)

layer(ground, { timeout: "120 seconds", excludeTestServices: true })("P1: PostgreSQL", (it) => {
  it.scoped("PostgreSQL crashes and comes back", () =>
    Effect.gen(function*() {
      const { postgres, program, saga } = yield* WithPostgres
      yield* saga.outlives(postgres.restart)
      yield* program.untilReady
    }), limit)

  it.scoped("every backend is terminated, again and again", () =>
    Effect.gen(function*() {
      const { saga } = yield* WithPostgres
      yield* saga.outlives(Effect.repeatN(Effect.zipRight(terminate(saga), saga.more(20)), 9))
    }), limit)

  it.scoped("COMMIT fails by a deferred constraint", () =>
    Effect.gen(function*() {
      const { program, saga } = yield* WithPostgres
      const said = program.stderr().length
      yield* saga.reserved(800_000_001)
      yield* saga.outlives(Effect.scoped(Effect.gen(function*() {
        yield* sabotage(saga, "RAISE EXCEPTION 'not now'")
        yield* refused(saga, 800_000_001)
        yield* Effect.sync(() => assert.include(program.stderr().slice(said), "waiting for the database")).pipe(
          eventually()
        )
      })))
    }), limit)

  it.scoped("the backend is killed at COMMIT", () =>
    Effect.gen(function*() {
      const { saga } = yield* WithPostgres
      yield* saga.reserved(800_000_002)
      yield* saga.outlives(Effect.scoped(Effect.gen(function*() {
        yield* sabotage(saga, "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1)")
        yield* refused(saga, 800_000_002)
      })))
    }), limit)

  it.scoped(
    "every third COMMIT conflicts: the transaction is repeated as a whole, and callers get no error",
    () =>
      Effect.gen(function*() {
        const { program, saga } = yield* WithPostgres
        const said = program.stderr().length
        yield* saga.outlives(Effect.scoped(Effect.gen(function*() {
          // by its number, so that all rows of a transaction agree: serialization failure, deadlock, lock time-out
          const hash = "abs(hashint8(pg_current_xact_id()::text::bigint))"
          yield* sabotage(
            saga,
            `RAISE EXCEPTION 'try again' USING ERRCODE = (ARRAY['40001', '40P01', '55P03'])[${hash} / 3 % 3 + 1]`,
            `${hash} % 3 = 0`
          )
          yield* Effect.tap(sabotaged(saga), (n) => assert.isAtLeast(n, 60)).pipe(eventually("60 seconds"))
        })))
        assert.strictEqual(saga.answered("UNAVAILABLE", "try again"), 0)
        assert.notMatch(program.stderr().slice(said), /waiting with a batch.*"(40001|40P01|55P03)"/)
      }),
    limit
  )

  it.scoped("a deadlock with another session that the service loses", () =>
    Effect.gen(function*() {
      const { program, saga } = yield* WithPostgres
      const { databaseUrl, inventory } = saga.world
      const said = program.stderr().length
      // whose patience ends first is the victim
      yield* withSetting(saga, "deadlock_timeout", "20ms")
      const deadlocks = statistic(saga, "deadlocks")
      const before = yield* deadlocks
      const [first, middle, last] = [900_000_001, 900_000_003, 900_000_005]
      const insert = (orderId: number) => `INSERT INTO payment (order_id, status) VALUES (${orderId}, 'CREATED')`
      const waiting = (application: string) =>
        saga.tables.count(
          `pg_stat_activity WHERE application_name = '${application}' AND wait_event_type = 'Lock' ` +
            `AND query LIKE '%INSERT INTO payment%'`
        ).pipe(
          Effect.tap((n) => assert.isAtLeast(n, 1, `${application} is to wait`)),
          eventually()
        )
      yield* saga.outlives(Effect.scoped(Effect.gen(function*() {
        const [rival, other] = yield* Effect.all([Rival.make(databaseUrl), Rival.make(databaseUrl)])
        yield* rival("SET deadlock_timeout = '60s'; SET application_name = 'rival'; BEGIN")
        yield* rival(insert(last))
        yield* other("BEGIN")
        yield* other(insert(middle))
        const values = Array.from({ length: last - first + 1 }, (_, i) => ({ value: Topics.reserved(first + i) }))
        yield* saga.topics.writeAll(inventory, 0, values)
        // the services hold the first and wait for the one in the middle; the rival waits for the first
        yield* waiting("payments")
        const waits = yield* Effect.fork(rival(insert(first)))
        yield* waiting("rival")
        // now they go on to the last, which the rival holds: it is they who find the deadlock
        yield* other("ROLLBACK")
        yield* Fiber.join(waits)
        yield* rival("ROLLBACK")
        yield* Effect.tap(deadlocks, (n) => assert.isAbove(n, before)).pipe(eventually())
        yield* saga.tables.count(`payment WHERE order_id BETWEEN ${first} AND ${last}`).pipe(
          Effect.tap((n) => assert.strictEqual(n, values.length)),
          eventually()
        )
      })))
      assert.notMatch(program.stderr().slice(said), /waiting with a batch.*"40P01"/)
    }), limit)

  it.scoped("locks are held for longer than lock_timeout", () =>
    Effect.gen(function*() {
      const { saga } = yield* WithPostgres
      yield* withSetting(saga, "lock_timeout", "50ms")
      const rolledBack = statistic(saga, "xact_rollback")
      yield* saga.outlives(Effect.scoped(Effect.gen(function*() {
        const rival = yield* Rival.make(saga.world.databaseUrl)
        const before = yield* rolledBack
        yield* rival("SET lock_timeout = 0")
        yield* rival("BEGIN")
        yield* rival("LOCK TABLE payment, event IN EXCLUSIVE MODE")
        // the limits of the services are their own: they wait on
        yield* saga.tables.count(
          `pg_stat_activity WHERE ${ours} AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > interval '1 second'`
        ).pipe(Effect.tap((n) => assert.isAtLeast(n, 1)), eventually("60 seconds"))
        assert.isBelow((yield* rolledBack) - before, 20)
        yield* rival("COMMIT")
      })))
    }), limit)

  it.scoped("connections are accepted and never answered", () =>
    Effect.gen(function*() {
      const { proxy, saga } = yield* WithPostgres
      yield* saga.outlives(Effect.gen(function*() {
        yield* proxy.set("silent")
        yield* unavailable(saga, 10)
        yield* proxy.set("pass")
      }))
    }), limit)
})

it.scopedLive("every connection of the pool waits for a lock", () =>
  Effect.gen(function*() {
    const saga = yield* Saga.make({ env: { DATABASE_POOL_SIZE: "2" } })
    const program = yield* saga.serve()
    yield* program.untilReady
    yield* saga.outlives(Effect.scoped(Effect.gen(function*() {
      const rival = yield* Rival.make(saga.world.databaseUrl)
      yield* rival("BEGIN")
      yield* rival("LOCK TABLE payment IN EXCLUSIVE MODE")
      yield* unavailable(saga, 10)
      yield* rival("COMMIT")
    })))
  }), limit)
