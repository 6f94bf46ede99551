import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { closeSync, openSync, writeSync } from "node:fs"
import * as Pg from "pg"
import { eventually } from "../../harness/Eventually.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
import { freshFolder } from "../../harness/World.js"
import * as Saga from "../Saga.js"
import { canMount, small } from "./Disk.js"
import * as Standby from "./Standby.js"

const limit = 240_000

/** Services on this server by a proxy, which are ready, and load. */
const services = Effect.fnUntraced(function*(postgres: Restartable.Restartable, delivery = "at-least-once") {
  const proxy = yield* Proxy.make(postgres.url)
  const saga = yield* Saga.make({
    servers: { databaseUrl: proxy.url },
    env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }
  })
  const program = yield* saga.serve()
  yield* program.untilReady
  return { proxy, saga, program } as const
})

type Services = Effect.Effect.Success<ReturnType<typeof services>>

/** Ends when calls are refused, and /readyz is 503, because the database takes no writes. */
const admitted = ({ program, saga }: Services, words: RegExp) =>
  Effect.gen(function*() {
    const goal = saga.answered("UNAVAILABLE") + 10
    yield* Effect.sync(() => assert.isAtLeast(saga.answered("UNAVAILABLE"), goal)).pipe(eventually("90 seconds"))
    yield* Effect.sync(() => assert.match(program.stderr(), words)).pipe(eventually())
  })

describe("P1 P2 P12: PostgreSQL dies slowly", () => {
  it.scopedLive.skipIf(!canMount)("the disk is full, and has room again", () =>
    Effect.gen(function*() {
      const folder = yield* freshFolder
      const disk = yield* small(folder, 256)
      const postgres = yield* Restartable.make("postgres", { folder: `${folder}/server` })
      const found = yield* services(postgres)
      yield* found.saga.outlives(Effect.gen(function*() {
        yield* disk.fill
        // no order begins meanwhile, so callers may have nothing to settle
        yield* Effect.sync(() => assert.match(found.program.stderr(), /waiting for postgres.*No space left on device/))
          .pipe(eventually("60 seconds"))
        yield* Effect.tap(found.program.readiness, ({ ready }) => assert.isFalse(ready)).pipe(eventually("60 seconds"))
        yield* Saga.repair([found.saga], disk.free)
      }))
    }), limit)

  it.scopedLive.skipIf(!canMount)(
    "the volume of the write-ahead log is full: the server stops, and an operator gives it room and starts it",
    () =>
      Effect.gen(function*() {
        const folder = yield* freshFolder
        const postgres = yield* Restartable.make("postgres", { folder })
        yield* postgres.stop
        const log = `${postgres.data}/pg_wal`
        const kept = `${folder}/kept`
        execFileSync("cp", ["-a", log, kept])
        const volume = yield* small(log, 64)
        execFileSync("cp", ["-a", `${kept}/.`, log])
        execFileSync("chmod", ["700", log])
        yield* postgres.start
        const found = yield* services(postgres, "exactly-once")
        yield* found.saga.outlives(
          Effect.gen(function*() {
            yield* volume.fill
            // what others write moves on to the next segment
            yield* Effect.ignore(Effect.sandbox(Standby.statement(postgres.url, "SELECT pg_switch_wal()")))
            yield* Effect.ignore(
              Effect.sandbox(
                Standby.statement(
                  postgres.url,
                  "CREATE TABLE heavy AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 200000) AS t (i)"
                )
              )
            )
            yield* admitted(found, /waiting for postgres/)
            yield* Saga.repair([found.saga], Effect.all([volume.free, postgres.crash, postgres.start]))
          }),
          Saga.noResends
        )
      }),
    limit
  )

  it.scopedLive("other programs use up max_connections", () =>
    Effect.gen(function*() {
      const postgres = yield* Restartable.make("postgres")
      const found = yield* services(postgres)
      const taken: Array<Pg.Client> = []
      const take = Effect.promise(async () => {
        for (;;) {
          const client = new Pg.Client({ connectionString: postgres.url }).on("error", () => {})
          try {
            await client.connect()
          } catch {
            return
          }
          taken.push(client)
        }
      })
      const release = Effect.promise(() => Promise.all(taken.splice(0).map((client) => client.end())))
      yield* Effect.addFinalizer(() => release)
      yield* found.saga.outlives(Effect.gen(function*() {
        for (let round = 0; round < 3; round++) {
          yield* take
          yield* Effect.promise(() =>
            taken[0]!.query(
              "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'payments%'"
            )
          )
        }
        yield* take
        yield* Effect.sync(() => assert.match(found.program.stderr(), /too many clients already|connection slots/))
          .pipe(
            eventually("60 seconds")
          )
        // callers share what is left, or wait
        yield* Effect.sleep("5 seconds")
        yield* Saga.repair([found.saga], release)
      }))
    }), limit)

  it.scopedLive("an index is found corrupt: callers wait, and an operator rebuilds it", () =>
    Effect.gen(function*() {
      const postgres = yield* Restartable.make("postgres")
      const found = yield* services(postgres)
      const { saga } = found
      yield* saga.outlives(Effect.gen(function*() {
        const [index] = yield* Standby.statement(
          postgres.url,
          "SELECT pg_relation_filepath('payment_order_id_key') AS path FROM (SELECT 1) AS one"
        )
        // in order, so that the log has nothing to put right
        yield* postgres.stop
        const file = openSync(`${postgres.data}/${String(index!["path"])}`, "r+")
        // the pages after the first, which describes the index
        for (let page = 1; page < 200; page++) writeSync(file, Buffer.alloc(8_192), 0, 8_192, page * 8_192)
        closeSync(file)
        yield* postgres.start
        yield* admitted(found, /waiting for postgres/)
        yield* Standby.statement(postgres.url, "CREATE EXTENSION IF NOT EXISTS amcheck")
        const check = Standby.session(postgres.url, (client) =>
          client.query("SELECT bt_index_check('payment_order_id_key', true)").then(() =>
            "sound", (error: Error) =>
            error.message))
        assert.match(yield* check, /payment_order_id_key/)
        yield* Saga.repair([saga], Standby.statement(postgres.url, "REINDEX INDEX payment_order_id_key"))
        assert.strictEqual(yield* check, "sound")
      }))
    }), limit)
})
