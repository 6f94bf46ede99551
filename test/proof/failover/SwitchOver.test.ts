import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { eventually } from "../../harness/Eventually.js"
import * as Saga from "../Saga.js"
import * as Pair from "./Pair.js"
import * as Standby from "./Standby.js"

class AtPair extends Context.Tag("test/AtPair")<AtPair, Effect.Effect.Success<typeof Pair.make>>() {}

layer(Layer.scoped(AtPair, Pair.make), { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P2 P4: PostgreSQL is switched over",
  (it) => {
    it.scoped(
      "a planned switch-over under load, and the old primary comes back beside the new one: it gets nothing",
      () =>
        Effect.gen(function*() {
          const { byHosts, byProxy, programs, primary: old, standby: heir, switching } = yield* AtPair
          const sagas = [byHosts, byProxy] as const
          const loads = yield* Effect.forEach(sagas, (saga) => saga.load)
          yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
          const before = sagas.map((saga) => saga.answered("UNAVAILABLE"))
          yield* Saga.repair(
            sagas,
            Effect.all([old.stop, Standby.promote(heir), switching.lead(heir.url), switching.cut])
          )
          yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
          const failed = sagas.map((saga, i) => saga.answered("UNAVAILABLE") - before[i]!)
          console.log(`calls UNAVAILABLE in the switch-over: ${failed.join(" and ")}`)

          // it accepts changes, and is named first
          yield* old.start
          // and waits for no standby
          yield* Standby.alone(old)
          const rows = Standby.statement(
            old.url,
            "SELECT (SELECT count(*) FROM payment) AS payments, (SELECT max(updated_at) FROM payment) AS settled, " +
              "(SELECT count(*) FROM event) AS events, (SELECT max(done_at) FROM event) AS sent"
          )
          const left = yield* rows
          yield* switching.lead(old.url)
          yield* Standby.statement(
            heir.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'payments%'"
          )
          yield* Effect.tap(programs[1].readiness, ({ dependencies }) =>
            assert.match(
              dependencies["postgres"]?.reason ?? "",
              /is an old primary: it is on timeline 1, and this process knows a primary on timeline 2/
            )).pipe(eventually())
          const newcomer = yield* byHosts.serve()
          yield* newcomer.untilReady
          yield* byHosts.more()
          assert.deepStrictEqual(yield* rows, left)
          yield* switching.lead(heir.url)
          yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
          yield* byHosts.judge(loads[0]!)
          yield* byProxy.judge(loads[1]!, Saga.noResends)
        }),
      120_000
    )
  }
)
