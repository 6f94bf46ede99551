import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer } from "effect"
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
          const promoted = yield* Clock.currentTimeMillis
          yield* Standby.promote(standby)
          yield* switching.lead(standby.url)
          yield* switching.cut
          const seconds = yield* Effect.forEach(sagas, (saga) =>
            Effect.zipRight(
              saga.more(1),
              Effect.map(Clock.currentTimeMillis, (now) => (now - promoted) / 1_000)
            ), {
            concurrency: "unbounded"
          })
          yield* Effect.forEach(sagas, (saga) => saga.more(50), { concurrency: "unbounded" })
          const verdict = yield* byHosts.judge(loads[0]!)
          const exact = yield* byProxy.judge(loads[1]!, Saga.noResends)
          console.log(
            `hosts: back after ${seconds[0]} s, ${
              verdict.found["resend"] ?? 0
            } resent of ${verdict.payment_records}; ` +
              `proxy: back after ${seconds[1]} s, ${exact.payment_records} records; ` +
              `${byHosts.answered("UNAVAILABLE")} and ${byProxy.answered("UNAVAILABLE")} calls UNAVAILABLE`
          )
        }),
      120_000
    )
  }
)
