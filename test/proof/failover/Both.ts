import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Saga from "../Saga.js"

/** A world for each delivery on these brokers: a service that is ready, and load until `judge`. */
export const underLoad = Effect.fnUntraced(function*(kafkaBrokers: string, ordersPerSecond: number) {
  const make = (delivery: string) =>
    Saga.make({ servers: { kafkaBrokers }, env: { OUTBOX_DELIVERY: delivery, OUTBOX_LEASE: "5s" }, ordersPerSecond })
  const sagas = [yield* make("at-least-once"), yield* make("exactly-once")] as const
  const each = <A, E, R>(run: (saga: Saga.Saga) => Effect.Effect<A, E, R>) =>
    Effect.forEach(sagas, run, { concurrency: "unbounded" })
  yield* each((saga) => saga.serve([], {}, { whenReady: true }))
  const loads = yield* Effect.forEach(sagas, (saga) => saga.load)
  /** Ends when so many orders more were settled in each world. */
  const more = (count = 25) => each((saga) => saga.more(count))
  yield* more()
  return {
    sagas,
    more,
    /** Ends the load: all orders are settled as asked, and no attempt was counted, which are refusals alone. */
    judge: Effect.gen(function*() {
      yield* Effect.all([sagas[0].judge(loads[0]!), sagas[1].judge(loads[1]!, Saga.noResends)], {
        concurrency: "unbounded"
      })
      for (const { tables } of sagas) assert.strictEqual(yield* tables.count("event WHERE attempts > 0"), 0)
    })
  } as const
})
