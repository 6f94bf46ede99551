import * as Check from "./Check.js"
import { nowMicros, until } from "./Clock.js"
import * as Cpu from "./Cpu.js"
import type { Bench, Case, Outcome, Sample } from "./Harness.js"
import { compare, inWorld, sample } from "./Harness.js"
import { intake } from "./Ingest.js"
import { inserted, isDrained, lastDone } from "./Outbox.js"
import { backlog } from "./Relay.js"
import * as Settle from "./Settle.js"
import { ours, start } from "./Subject.js"
import { atLeast } from "./Table.js"

const orders = 40_000
const warm = 2_000

/**
 * One process does everything at the same time: it takes in reservations of new orders, settles existing payments for 128
 * callers, and publishes the events of both. Ends with the last mark by the database's clock.
 */
const together = (bench: Bench): Case<Sample> => ({
  name: "payments, all at once",
  measure: () =>
    inWorld(bench, async (world) => {
      const { load, servers, topics } = bench
      const old = warm + orders
      await Settle.fill(world, old)
      await topics.reserve(world.inventory, old + 1, warm)
      const running = await start(ours(), world.env)
      const settle = (first: number, count: number) =>
        load.run({ target: running.grpc, callers: 128, orders: { first, count } })
      const published = (events: number) =>
        until(`${events} events`, 120, async () => (await inserted(world)) >= events && (await isDrained(world)))
      try {
        Settle.allOk(await settle(1, warm))
        await published(2 * warm)
        running.pause()
        await topics.reserve(world.inventory, old + warm + 1, orders)
        await world.query("CHECKPOINT")
        const spent = Cpu.count(servers, running)
        const began = nowMicros()
        running.resume()
        const [seen] = await Promise.all([settle(warm + 1, orders), published(2 * old)])
        const cost = spent(2 * orders)
        Settle.allOk(seen)
        Check.once(
          await topics.read(world.payment, 2 * old),
          (order) => order <= old ? "COMPLETED" : "CREATED",
          2 * old
        )
        return sample((2 * orders * 1e6) / ((await lastDone(world)) - began), cost)
      } finally {
        await running.stop()
      }
    })
})

/** Everything in one process, against each part in a separate process. An order has two events. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const rows = await compare(bench, "saga", "events/s", [
    together(bench),
    intake(bench, ours("consumer"), 60_000, { name: "intake alone" }),
    backlog(bench, ours("relay"), 30_000, { name: "relay alone" })
  ])
  const [all, taken, relayed] = rows
  return {
    rows,
    verdicts: [
      atLeast("saga", "all at once / slower part", all!.median / Math.min(taken!.median, relayed!.median), 0.8)
    ]
  }
}
