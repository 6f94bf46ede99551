import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { eventually } from "../../harness/Eventually.js"
import { freePort } from "../../harness/FreePort.js"
import * as Program from "../../harness/Program.js"
import * as Proxy from "../../harness/Proxy.js"
import * as Restartable from "../../harness/Restartable.js"
import * as Topics from "../../harness/Topics.js"
import * as Saga from "../Saga.js"
import * as Standby from "./Standby.js"

for (const delivery of ["at-least-once", "exactly-once"]) {
  it.scopedLive(
    `${delivery}: an asynchronous standby that lags is promoted: the audit names what is gone, and payments recover puts it back`,
    () =>
      Effect.gen(function*() {
        const primary = yield* Restartable.make("postgres", { port: yield* freePort })
        const stream = yield* Proxy.make(primary.url)
        const standby = yield* Standby.make(primary, { name: "lagging", port: yield* freePort, through: stream.url })
        const proxy = yield* Proxy.make(primary.url)
        const saga = yield* Saga.make({ servers: { databaseUrl: proxy.url }, env: { OUTBOX_DELIVERY: delivery } })
        const { tables, topics, world } = saga
        const first = yield* saga.serve()
        yield* first.untilReady
        yield* saga.judge(yield* saga.load)
        const known = saga.begun()

        // from here on the standby learns nothing
        yield* stream.set("refuse")
        const [created, paid, refused] = [800_000_001, 800_000_003, 800_000_006]
        for (const order of [created, paid, refused]) yield* saga.reserved(order)
        assert.strictEqual(yield* saga.ask(paid), "OK")
        assert.strictEqual(yield* saga.ask(refused), "OK")
        // acknowledged to callers, on the topic, and the offsets are committed
        yield* tables.count("event WHERE status <> 'DONE'").pipe(
          Effect.tap((n) => assert.strictEqual(n, 0)),
          eventually()
        )
        yield* first.signal("SIGTERM")
        assert.strictEqual((yield* first.ended).code, 0)
        // its event does not get to the topic: no relay runs
        const consumer = yield* saga.serve(["consumer"])
        yield* topics.write(world.inventory, { value: Topics.reserved(900_000_001) })
        yield* tables.payments(900_000_001).pipe(
          Effect.tap((payments) => assert.lengthOf(payments, 1)),
          eventually("60 seconds")
        )
        yield* consumer.signal("SIGTERM")
        assert.strictEqual((yield* consumer.ended).code, 0)
        yield* primary.destroy
        yield* Standby.promote(standby)
        yield* proxy.lead(standby.url)
        yield* proxy.cut

        const { faults, verdict } = yield* saga.look()
        assert.isFalse(verdict.clean)
        assert.strictEqual(yield* tables.count("payment WHERE order_id >= 800000001"), 0)
        const named = faults.map((fault) =>
          JSON.parse(fault) as { readonly finding: string; readonly order_id: string }
        )
        assert.includeMembers(
          [...new Set(named.map(({ finding, order_id }) => `${finding} ${order_id}`))],
          [created, paid, refused, 900_000_001].map((order) => `lost-record ${order}`)
        )

        const more = yield* Saga.repair(
          [saga],
          Effect.gen(function*() {
            const recovered = yield* Program.run(
              ["recover", "--yes", "--reason", "the standby lagged", "--operator", "night shift"],
              world.env
            )
            assert.strictEqual(recovered.code, 0, recovered.stderr)
            assert.match(recovered.stdout, /take over 3 orders from topic .* read 1 inventory record again/)
            yield* saga.serve()
            return yield* saga.load
          })
        )
        // the results on the topic hold: a call that contradicts one is refused
        assert.match((yield* saga.contrary(paid)).code, /FAILED_PRECONDITION/)
        assert.match((yield* saga.contrary(refused)).code, /FAILED_PRECONDITION/)
        assert.strictEqual(yield* saga.ask(paid), "OK")
        yield* saga.more()
        yield* saga.judge(more)
        assert.isAbove(saga.begun(), known)
      }),
    180_000
  )
}
