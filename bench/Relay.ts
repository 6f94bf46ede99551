import * as Pg from "pg"
import * as Check from "./Check.js"
import { nowMicros, until } from "./Clock.js"
import * as Cpu from "./Cpu.js"
import type { Bench, Case, Outcome, Sample } from "./Harness.js"
import { compare, inWorld, sample } from "./Harness.js"
import { isDrained, lastDone } from "./Outbox.js"
import type { Subject } from "./Subject.js"
import { exactlyOnce, floor, ours, start } from "./Subject.js"
import { atLeast, atMost } from "./Table.js"
import type { Template, World } from "./World.js"

const statuses = ["CREATED", "COMPLETED"]

/** Inserts two events for each order from `first` on: all first events, then all second ones. */
const fill = async (world: World, first: number, orders: number) => {
  for (const status of statuses) {
    await world.query(
      `INSERT INTO event (topic, order_id, payload)
       SELECT $1::text, n, format('{"idempotent_key":"%s","order_id":%s,"status":"%s"}', gen_random_uuid(), n, $2::text)
       FROM generate_series($3::bigint, $3::bigint + $4::bigint - 1) AS n`,
      [world.payment, status, first, orders]
    )
  }
}

/** Opens a snapshot transaction, which keeps vacuum from removing dead rows. */
const openTransaction = async (world: World) => {
  const client = new Pg.Client(world.env["DATABASE_URL"])
  await client.connect()
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
  await client.query("SELECT FROM event LIMIT 1")
  return () => client.end()
}

/** What runs during the drain of a backlog. */
type Beside = "nothing" | "an open transaction"

/** Drains events that all exist when the clock starts; ends with the last mark, by the database's clock. */
const drain = async (
  bench: Bench,
  world: World,
  subject: Subject,
  { beside, orders, warm }: { readonly warm: number; readonly orders: number; readonly beside: Beside }
): Promise<Sample> => {
  await fill(world, 1, warm)
  const running = await start(subject, world.env)
  let end = () => Promise.resolve()
  try {
    await until("the first events", 60, () => isDrained(world))
    running.pause()
    await fill(world, warm + 1, orders)
    await world.query("VACUUM ANALYZE event")
    await world.query("CHECKPOINT")
    if (beside === "an open transaction") end = await openTransaction(world)
    const spent = Cpu.count(bench.servers, running)
    const began = nowMicros()
    await world.query("SELECT pg_notify('payments_outbox', '')")
    running.resume()
    await until("the backlog to drain", 300, () => isDrained(world))
    const cost = spent(2 * orders)
    return sample((2 * orders * 1e6) / ((await lastDone(world)) - began), cost)
  } finally {
    await end()
    await running.stop()
  }
}

/** A backlog of two events for each of `orders`, in a database like `template`; read as committed when it is on the topic. */
export const backlog = (
  bench: Bench,
  subject: Subject,
  orders: number,
  { beside = "nothing", name = subject.name, template }: {
    readonly name?: string
    readonly template?: Template
    readonly beside?: Beside
  } = {}
): Case<Sample> => ({
  name,
  measure: () =>
    inWorld(bench, async (world) => {
      const warm = Math.min(2_000, orders / 4)
      const measured = await drain(bench, world, subject, { warm, orders, beside })
      const all = warm + orders
      Check.published(await bench.topics.read(world.payment, 2 * all), all, statuses)
      return measured
    }, template)
})

/** Events of the outbox → topic `payment`. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const rows = await compare(bench, "relay", "events/s", [
    backlog(bench, ours("relay"), 50_000),
    backlog(bench, ours("relay"), 50_000, {
      name: "payments, beside an open transaction",
      beside: "an open transaction"
    }),
    backlog(bench, exactlyOnce("relay"), 50_000),
    backlog(bench, floor("Relay", "batched"), 50_000),
    backlog(bench, floor("Relay", "naive"), 500)
  ])
  const [own, held, exact, batched, naive] = rows
  return {
    rows,
    verdicts: [
      atLeast("relay", "ours / batched", own!.median / batched!.median, 1.2),
      atLeast("relay", "ours / naive", own!.median / naive!.median, 12),
      atMost("relay", "CPU, ours / batched", own!.cost.own / batched!.cost.own, 1.3),
      atLeast("relay", "exactly-once / at-least-once", exact!.median / own!.median, 0.8),
      atLeast("relay", "beside an open transaction / alone", held!.median / own!.median, 0.9)
    ]
  }
}
