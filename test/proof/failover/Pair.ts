import { Effect } from "effect"
import { freePort } from "../../harness/FreePort.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
import * as Saga from "../Saga.js"
import * as Standby from "./Standby.js"

/** A primary, a synchronous standby, and one world for each delivery: one finds the primary by its hosts, one by a proxy. */
export const make = Effect.gen(function*() {
  const ports = [yield* freePort, yield* freePort] as const
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
  return { primary, standby, switching, byHosts, byProxy, programs } as const
})
