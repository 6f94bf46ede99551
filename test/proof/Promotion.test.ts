import { assert, layer } from "@effect/vitest"
import { Clock, Context, Effect, Layer } from "effect"
import { eventually } from "../harness/Eventually.js"
import { freePort } from "../harness/FreePort.js"
import * as Proxy from "../harness/Proxy.js"
import * as Restartable from "../harness/Restartable.js"
import * as Standby from "./failover/Standby.js"
import * as Saga from "./Saga.js"

/** A primary, a synchronous standby, and one world for each delivery: one finds the primary by its hosts, one by a proxy. */
const make = Effect.gen(function*() {
  const ports = [yield* freePort, yield* freePort, yield* freePort] as const
  const primary = yield* Restartable.make("postgres", { port: ports[0] })
  yield* Standby.statement(primary.url, "CREATE DATABASE proxied")
  const standby = yield* Standby.make(primary, { name: "heir", port: ports[1] })
  yield* Standby.waitFor(primary, "heir")
  const switching = yield* Proxy.make(primary.url)
  const at = (database: string) => switching.url.replace(/\/payments$/, `/${database}`)
  const hosts = `postgres://payments:payments@${ports.map((port) => `127.0.0.1:${port}`).join(",")}/payments` +
    "?target_session_attrs=read-write&connect_timeout=2"
  const byHosts = yield* Saga.make({ servers: { databaseUrl: at("payments") }, env: { DATABASE_URL: hosts } })
  const byProxy = yield* Saga.make({
    servers: { databaseUrl: at("proxied") },
    env: { OUTBOX_DELIVERY: "exactly-once", OUTBOX_LEASE: "5s" }
  })
  const programs = [yield* byHosts.serve(), yield* byProxy.serve()] as const
  yield* Effect.forEach(programs, (program) => program.untilReady, { concurrency: "unbounded" })
  return { primary, standby, ports, switching, byHosts, byProxy, programs } as const
})

class Pair extends Context.Tag("test/Pair")<Pair, Effect.Effect.Success<typeof make>>() {}

layer(Layer.scoped(Pair, make), { timeout: "120 seconds", excludeTestServices: true })(
  "P1 P2 P4: PostgreSQL fails over",
  (it) => {
    it.scoped(
      "the primary dies for good, and its synchronous standby is promoted: nothing acknowledged is lost",
      () =>
        Effect.gen(function*() {
          const { byHosts, byProxy, primary, programs, standby, switching } = yield* Pair
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

    it.scoped(
      "a planned switch-over under load, and the old primary comes back beside the new one: it gets nothing",
      () =>
        Effect.gen(function*() {
          const { byHosts, byProxy, ports, programs, standby: old, switching } = yield* Pair
          const heir = yield* Standby.make(old, { name: "next", port: ports[2] })
          yield* Standby.waitFor(old, "next")
          const sagas = [byHosts, byProxy] as const
          const loads = yield* Effect.forEach(sagas, (saga) => saga.load)
          yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
          const began = yield* Clock.currentTimeMillis
          const before = sagas.map((saga) => saga.answered("UNAVAILABLE"))
          yield* old.stop
          yield* Standby.promote(heir)
          yield* switching.lead(heir.url)
          yield* switching.cut
          yield* Effect.forEach(sagas, (saga) => saga.more(1), { concurrency: "unbounded" })
          const seconds = ((yield* Clock.currentTimeMillis) - began) / 1_000
          yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
          const failed = sagas.map((saga, i) => saga.answered("UNAVAILABLE") - before[i]!)

          // it accepts changes, and is named first
          yield* old.start
          const sessions = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name LIKE 'payments%'"
          yield* switching.lead(old.url)
          yield* Standby.statement(
            heir.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'payments%'"
          )
          yield* Effect.tap(programs[1].readiness, ({ dependencies }) =>
            assert.match(
              dependencies["postgres"]?.reason ?? "",
              /is an old primary: it is on timeline 2, and this process knows a primary on timeline 3/
            )).pipe(eventually())
          const newcomer = yield* byHosts.serve()
          yield* newcomer.untilReady
          yield* byHosts.more()
          assert.deepStrictEqual(yield* Standby.statement(old.url, sessions), [{ n: 0 }])
          yield* switching.lead(heir.url)
          yield* Effect.forEach(sagas, (saga) => saga.more(), { concurrency: "unbounded" })
          yield* byHosts.judge(loads[0]!)
          yield* byProxy.judge(loads[1]!, Saga.noResends)
          console.log(`switched over in ${seconds} s; calls UNAVAILABLE: ${failed.join(" and ")}`)
        }),
      120_000
    )
  }
)
