import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { eventually } from "../harness/Eventually.js"
import * as Pair from "./failover/Pair.js"
import * as Standby from "./failover/Standby.js"
import * as Saga from "./Saga.js"

class AtPair extends Context.Tag("test/AtPair")<AtPair, Effect.Effect.Success<typeof Pair.make>>() {}

layer(Layer.scoped(AtPair, Pair.make), { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P2 P4: PostgreSQL fails over",
  (it) => {
    it.scoped(
      "the primary dies for good, and its synchronous standby is promoted: nothing acknowledged is lost",
      () =>
        Effect.gen(function*() {
          const { byHosts, byProxy, primary, programs, standby, switching } = yield* AtPair
          const sagas = [byHosts, byProxy] as const
          const loads = yield* Effect.forEach(sagas, (saga) => saga.load)
          yield* Effect.forEach(sagas, (saga) => saga.more(50), { concurrency: "unbounded" })
          yield* primary.destroy
          // a standby answers reads, and is never taken for the primary
          yield* Effect.forEach(programs, (program) =>
            Effect.tap(
              program.readiness,
              ({ dependencies }) => assert.isFalse(dependencies["postgres"]?.ok, "still ready")
            ).pipe(eventually()))
          assert.match(
            (yield* programs[0].readiness).dependencies["postgres"]?.reason ?? "",
            /is read-only, but target_session_attrs=read-write/
          )
          yield* Saga.repair(
            sagas,
            Effect.all([Standby.promote(standby), switching.lead(standby.url), switching.cut])
          )
          yield* Effect.forEach(sagas, (saga) => saga.more(50), { concurrency: "unbounded" })
          yield* byHosts.judge(loads[0]!)
          yield* byProxy.judge(loads[1]!, Saga.noResends)
        }),
      120_000
    )
  }
)
