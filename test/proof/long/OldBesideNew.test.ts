import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Program from "../../harness/Program.js"
import { large } from "../Bounds.js"
import * as Saga from "../Saga.js"
import * as Versions from "./Versions.js"

// the first one has no program before it
const migrations = large ? Versions.migrations.slice(1) : Versions.migrations.slice(-1)

describe("P1 P2 P4 P9 P10: an upgrade and its rollback", () => {
  for (const migration of migrations) {
    const version = Versions.before(migration)
    if ("reason" in version) {
      it.skip(`the program before ${migration}: not checked, ${version.reason}`)
      continue
    }
    it.scopedLive(
      `the program before ${migration} beside this one: no call fails, no event is sent twice, nothing is lost`,
      () =>
        Effect.gen(function*() {
          const old = yield* Versions.compiled(version)
          const saga = yield* Saga.make()
          const serveOld = saga.serve([], {}, { main: old, whenReady: true })
          const stop = Effect.fnUntraced(function*(program: Program.Services) {
            yield* saga.withdraw(program)
            yield* program.signal("SIGTERM")
            const { code } = yield* Effect.timeout(program.ended, "30 seconds")
            assert.strictEqual(code, 0, program.stderr())
          })

          const before = yield* serveOld
          const load = yield* saga.load
          yield* saga.more()
          // as `docs/deploy.md` says: the migration before the processes
          const migrated = yield* Program.run(["migrate"], saga.world.env)
          assert.strictEqual(migrated.code, 0, migrated.stderr)
          assert.include(migrated.stdout, migration.replace(/^\d+_|\.sql$/g, ""))
          yield* saga.more(50)
          const current = yield* saga.serve([], { MIGRATE_ON_START: "false" }, { whenReady: true })
          yield* saga.more(100)
          yield* stop(before)
          yield* saga.more(50)
          const again = yield* serveOld
          yield* saga.more(50)
          yield* stop(current)
          yield* saga.more(50)

          const verdict = yield* saga.judge(load, Saga.noResends)
          const failed = [...saga.answers].filter(([answer]) => !/^(OK$|NOT_FOUND\b)/.test(answer))
          const early = [...saga.answers].flatMap(([answer, count]) => answer.startsWith("NOT_FOUND") ? [count] : [])
          process.stdout.write(
            `before ${migration}: ${saga.begun()} orders, ${verdict.payment_records} records, ${failed.length} failed; ` +
              `${early.length} orders were called before they had a payment, one of them ${
                Math.max(0, ...early)
              } times\n`
          )
          assert.deepStrictEqual(failed, [], "calls failed")
          yield* stop(again)
        }),
      240_000
    )
  }
})
