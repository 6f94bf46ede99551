import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect } from "effect"
import * as FactStore from "../../src/audit/FactStore.js"
import * as Tables from "../../src/audit/Tables.js"
import * as PgTest from "../harness/PgTest.js"
import * as Stranger from "../harness/Tables.js"

layer(PgTest.layer, { timeout: "60 seconds", excludeTestServices: true })("Tables", (it) => {
  it.scoped("both tables are read in one snapshot, without rows committed between the two reads", () =>
    Effect.gen(function*() {
      const { query } = yield* Stranger.make(yield* PgTest.DatabaseUrl)
      const order = (orderId: number) =>
        query(
          `WITH paid AS (INSERT INTO payment (order_id, status) VALUES ($1, 'CREATED'))
           INSERT INTO event (topic, order_id, payload) VALUES ('payment', $1, '')`,
          [orderId]
        )
      yield* order(1)
      const store = yield* FactStore.make
      let later = 1
      const { counts } = yield* Tables.read({
        topic: "payment",
        startedAt: yield* Tables.clock,
        since: undefined,
        order: undefined,
        keys: [],
        retention: Duration.days(7),
        onTotal: () => Effect.void,
        // the payments are read, and then the events
        onRead: () => Effect.asVoid(Effect.suspend(() => order(++later)))
      }, store)
      assert.deepStrictEqual(counts, { payments: 1, WAIT: 1, DONE: 0, DEAD: 0, unreadable: 0 })
      const parts = Array.from({ length: FactStore.parts }, (_, part) => store.ordersOf(part))
      const orders = (yield* Effect.all(parts)).flat()
      assert.deepStrictEqual(orders.map(({ orderId }) => orderId), [1n])
    }).pipe(Effect.provide(NodeContext.layer)))
})
