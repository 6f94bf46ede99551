import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as Pg from "pg"
import * as Sessions from "../../../src/doctor/Sessions.js"
import * as Postgres from "../../../src/infra/postgres/Postgres.js"
import { eventually } from "../../harness/Eventually.js"
import * as Program from "../../harness/Program.js"
import * as Restartable from "../../harness/Restartable.js"
import type * as Tables from "../../harness/Tables.js"
import { bound } from "../Bounds.js"
import * as Saga from "../Saga.js"
import * as Standby from "./Standby.js"

const limit = 600_000

const events = bound({ standard: 200_000, large: 1_000_000 })
const rounds = 10
/** Orders of these events: above those of the clients. */
const firstOrder = 1_000_000_000

/** A transaction that sees the tables as they are now, and does nothing more. */
const olderTransaction = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const client = new Pg.Client({ connectionString: url, application_name: "report" }).on("error", () => {})
      await client.connect()
      await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
      const { rows: [{ pid }] } = await client.query("SELECT pg_backend_pid() AS pid, (SELECT count(*) FROM event)")
      return { pid: pid as number, end: Effect.promise(() => client.end()) } as const
    }),
    ({ end }) => end
  )

/** What the claims of a round have cost. */
interface Claims {
  readonly calls: number
  readonly blocks: number
  readonly millis: number
}

/** Writes orders with their first events, and waits until they are published. */
const publish = Effect.fnUntraced(function*(
  { tables: { count, query }, world }: { readonly tables: Tables.Tables; readonly world: Saga.Saga["world"] },
  first: number,
  orders: number
) {
  yield* query(
    `WITH paid AS (
       INSERT INTO payment (order_id, status) SELECT n, 'CREATED' FROM generate_series($2::bigint, $3::bigint) AS n
     )
     INSERT INTO event (topic, order_id, payload)
     SELECT $1, n, format('{"idempotent_key":"%s","order_id":%s,"status":"CREATED"}', gen_random_uuid(), n)
     FROM generate_series($2::bigint, $3::bigint) AS n`,
    [world.payment, first, first + orders - 1]
  )
  // ids of the clients' events lie between: the last one may be published before the first
  yield* count(`event WHERE order_id >= ${first} AND status = 'WAIT'`).pipe(
    Effect.tap((waiting) => Effect.sync(() => assert.strictEqual(waiting, 0, "not published"))),
    eventually("3 minutes", "200 millis")
  )
})

/** The same, and what the claims have cost. */
const measured = Effect.fnUntraced(function*(saga: Saga.Saga, first: number, orders: number) {
  const { query } = saga.tables
  yield* query("SELECT pg_stat_statements_reset()")
  yield* publish(saga, first, orders)
  const [claims] = yield* query<Claims>(
    `SELECT sum(calls)::float8 AS calls, sum(shared_blks_hit + shared_blks_read)::float8 AS blocks,
            sum(total_exec_time)::float8 AS millis
     FROM pg_stat_statements WHERE query LIKE '%FROM event AS candidate%SKIP LOCKED%'`
  )
  return claims!
})

/** Blocks that a look at the outbox from its beginning reads. */
const fromTheBeginning = ({ query }: Tables.Tables) =>
  query<{ readonly "QUERY PLAN": ReadonlyArray<{ readonly Plan: Record<string, number> }> }>(
    "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT id FROM event WHERE status = 'WAIT' ORDER BY id LIMIT 1"
  ).pipe(Effect.map(([row]) => {
    const { Plan } = row!["QUERY PLAN"][0]!
    return Plan["Shared Hit Blocks"]! + Plan["Shared Read Blocks"]!
  }))

describe("P1 P2 P3 P11: another program's transaction stays open", () => {
  it.scopedLive(
    "a standby is gone, and its replication slot holds back vacuum: the doctor names it",
    () =>
      Effect.gen(function*() {
        const postgres = yield* Restartable.make("postgres")
        const saga = yield* Saga.make({ servers: { databaseUrl: postgres.url } })
        const program = yield* saga.serve()
        yield* program.untilReady
        yield* Standby.gone(postgres.url)
        const size = 20_000
        yield* saga.outlives(Effect.gen(function*() {
          yield* publish(saga, firstOrder, size)
          yield* Effect.ignore(saga.tables.query("VACUUM event"))
          const held = yield* fromTheBeginning(saga.tables)
          assert.isAbove(held, size / 50, "the slot holds nothing back")
          const doctor = Effect.map(Program.run(["doctor"], saga.world.env), ({ stdout }) => stdout)
          // red when the doctor does not ask for slots
          assert.match(yield* doctor, /open: replication slot gone, which no standby reads, for \d+ transactions/)
          yield* Standby.statement(postgres.url, "SELECT pg_drop_replication_slot('gone')")
          assert.notInclude(yield* doctor, "replication slot")
          yield* saga.tables.query("VACUUM event")
          assert.isBelow(yield* fromTheBeginning(saga.tables), held / 2)
        }))
      }),
    limit
  )

  for (const delivery of ["at-least-once", "exactly-once"]) {
    it.scopedLive(
      `${delivery}: while ${events} events pass an old transaction, claims stay bounded, and the doctor names it`,
      () =>
        Effect.gen(function*() {
          const postgres = yield* Restartable.make("postgres")
          yield* Standby.statement(postgres.url, "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
          yield* Standby.statement(postgres.url, "ALTER SYSTEM SET autovacuum_naptime = '1s'")
          yield* postgres.stop
          yield* postgres.start
          yield* Standby.statement(postgres.url, "CREATE EXTENSION pg_stat_statements")
          const saga = yield* Saga.make({
            servers: { databaseUrl: postgres.url },
            env: { OUTBOX_DELIVERY: delivery }
          })
          const program = yield* saga.serve()
          yield* program.untilReady
          const old = yield* olderTransaction(postgres.url)
          // a slow machine has more claims an event, and more looks from the beginning
          const perClaim: Array<number> = []
          const size = events / rounds
          yield* saga.outlives(
            Effect.gen(function*() {
              for (let round = 0; round < rounds; round++) {
                const began = Date.now()
                const { blocks, calls, millis } = yield* measured(saga, firstOrder + round * size, size)
                perClaim.push(blocks / calls)
                console.log(
                  `${delivery}, ${(round + 1) * size} events: ${calls} claims of ${
                    Math.round(blocks / calls)
                  } blocks and ` +
                    `${(millis / calls).toFixed(1)} ms, ${(blocks / size).toFixed(1)} blocks an event; ` +
                    `${Math.round(size / (Date.now() - began) * 1_000)} events/s`
                )
              }
              const before = yield* fromTheBeginning(saga.tables)
              assert.isAbove(before, events / 50, "the transaction holds nothing back")
              // red when claims begin at the first row: each reads 4.8 to 7.9 times the blocks at last
              assert.isBelow(perClaim.at(-1)!, 3 * perClaim[0]!, `blocks a claim: ${perClaim.join()}`)
              assert.isTrue((yield* program.readiness).ready)
              // the command calls a transaction old after five minutes
              const found = yield* Sessions.checkTransactions("1 second").pipe(
                Effect.provide(Postgres.layer({ url: Redacted.make(postgres.url), maxConnections: 1 }))
              )
              assert.match(JSON.stringify(found), new RegExp(`open: pid ${old.pid} of payments.*pg_terminate_backend`))
              yield* old.end
              yield* Effect.tap(fromTheBeginning(saga.tables), (blocks) =>
                Effect.sync(() => {
                  assert.isBelow(blocks, before / 10, "not vacuumed")
                  console.log(`${delivery}, a look from the beginning: ${before} blocks, ${blocks} after its end`)
                })).pipe(eventually("3 minutes", "500 millis"))
            }),
            Saga.noResends
          )
        }),
      limit
    )
  }
})
