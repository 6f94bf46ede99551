import * as Check from "./Check.js"
import { nowMicros, until } from "./Clock.js"
import type { Bench, Outcome, Sample } from "./Harness.js"
import { compare, inWorld } from "./Harness.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atLeast, atMost } from "./Table.js"
import type { World } from "./World.js"

/** Two events for each of the orders from `first` on: all the first ones, then all the second ones. */
export const fill = async (world: World, first: number, orders: number) => {
  for (const status of ["CREATED", "COMPLETED"]) {
    await world.query(
      `INSERT INTO event (topic, order_id, payload)
       SELECT $1::text, n, format('{"idempotent_key":"%s","order_id":%s,"status":"%s"}', gen_random_uuid(), n, $2::text)
       FROM generate_series($3::bigint, $3::bigint + $4::bigint - 1) AS n`,
      [world.payment, status, first, orders]
    )
  }
}

const isDrained = (world: World) => async () =>
  (await world.query("SELECT FROM event WHERE status = 'WAIT' LIMIT 1")).length === 0

/** Drains events that are all there when the clock starts; ends with the last mark, by the database's clock. */
export const drain = async (world: World, subject: Subject, orders: number, warm = 2_000): Promise<Sample> => {
  await fill(world, 1, warm)
  const running = await start(subject, world.env)
  try {
    await until("the first events", 60, isDrained(world))
    running.pause()
    await fill(world, warm + 1, orders)
    await world.query("VACUUM ANALYZE event")
    await world.query("CHECKPOINT")
    const [cpu, began] = [running.cpu(), nowMicros()]
    await world.query("SELECT pg_notify('payments_outbox', '')")
    running.resume()
    await until("the backlog to drain", 300, isDrained(world))
    const used = running.cpu() - cpu
    const [row] = await world.query<{ readonly last: number }>(
      "SELECT extract(epoch FROM max(done_at))::float8 * 1e6 AS last FROM event"
    )
    return { value: (2 * orders * 1e6) / (row!.last - began), cpu: used / (2 * orders) }
  } finally {
    await running.stop()
  }
}

const sizes: Record<string, number> = { payments: 50_000, batched: 50_000, naive: 1_000 }
const statuses = ["CREATED", "COMPLETED"]

/** Events of the outbox → topic `payment`. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const subjects = [ours("relay"), floor("Relay", "batched"), floor("Relay", "naive")]
  const rows = await compare(bench, "relay", "events/s", subjects, (subject) =>
    inWorld(bench, async (world) => {
      const orders = sizes[subject.name]!
      const warm = Math.min(2_000, orders / 4)
      const sample = await drain(world, subject, orders, warm)
      const all = orders + warm
      Check.published(await bench.topics.read(world.payment, 2 * all), all, statuses)
      return sample
    }))
  const [own, batched, naive] = rows
  return {
    rows,
    verdicts: [
      atLeast("relay", "ours / batched", own!.median / batched!.median, 1.2),
      atLeast("relay", "ours / naive", own!.median / naive!.median, 12),
      atMost("relay", "CPU, ours / batched", own!.cpu / batched!.cpu, 1.3)
    ]
  }
}
