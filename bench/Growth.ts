import type { Bench, Outcome } from "./Harness.js"
import { inWorld, row } from "./Harness.js"
import { ingest } from "./Ingest.js"
import { drain } from "./Relay.js"
import { ours } from "./Subject.js"
import { atLeast } from "./Table.js"
import type { World } from "./World.js"

/** Ten million settled payments and five million events that were sent, of orders that nobody asks for again. */
const history = async (world: World) => {
  await world.query(`
    INSERT INTO payment (order_id, status, inventory_key)
    SELECT 1000000000 + n, 'COMPLETED', gen_random_uuid() FROM generate_series(1, 10000000) AS n
  `)
  await world.query(
    `INSERT INTO event (topic, order_id, payload, status, done_at)
     SELECT $1::text, 1000000000 + n, '{}', 'DONE', clock_timestamp() FROM generate_series(1, 5000000) AS n`,
    [world.payment]
  )
  await world.query("VACUUM ANALYZE payment, event")
}

/** The rates with much behind and much before us, against those with little. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const tell = (what: string, value: number) => {
    bench.say(`growth  ${what}  ${Math.round(value).toLocaleString("en")}/s`)
    return { what, value }
  }
  const relay = (what: string, orders: number, before: (world: World) => Promise<void> = () => Promise.resolve()) =>
    inWorld(bench, async (world) => {
      await before(world)
      return tell(what, (await drain(world, ours("relay"), orders)).value)
    })
  const intake = (what: string, before: (world: World) => Promise<void> = () => Promise.resolve()) =>
    inWorld(bench, async (world) => {
      await before(world)
      return tell(what, (await ingest(bench, world, ours("consumer"), 50_000)).value)
    })
  const all = [
    await relay("relay, backlog of 50,000", 25_000),
    await relay("relay, backlog of 1,000,000", 500_000),
    await relay("relay, 50,000 after much history", 25_000, history),
    await intake("ingest, empty tables"),
    await intake("ingest, after much history", history)
  ] as const
  const [short, long, old, empty, full] = all
  return {
    rows: all.map(({ value, what }) => row(what, "/s", "payments", [{ value, cpu: Number.NaN }])),
    verdicts: [
      atLeast("growth", "backlog 1,000,000 / 50,000", long.value / short.value, 0.85),
      atLeast("growth", "relay, much history / none", old.value / short.value, 0.85),
      atLeast("growth", "ingest, much history / none", full.value / empty.value, 0.85)
    ]
  }
}
