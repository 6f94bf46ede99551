import * as Check from "./Check.js"
import { nowMicros, until } from "./Clock.js"
import type { Bench, Outcome, Sample } from "./Harness.js"
import { compare, inWorld } from "./Harness.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atLeast, atMost } from "./Table.js"
import type { World } from "./World.js"

/** Payments inserted, by the sequence: counting the table would be work for the database. */
const inserted = async (world: World) => {
  const [row] = await world.query<{ readonly n: string }>(
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM event_id_seq"
  )
  return Number(row!.n)
}

/**
 * Takes in `count` records that are all there when the clock starts: the subject is warm and stands still while they
 * are written. Ends with the last insert by the database's clock.
 */
export const ingest = async (bench: Bench, world: World, subject: Subject, count: number): Promise<Sample> => {
  const warm = Math.min(8_000, count)
  const before = await inserted(world)
  await bench.topics.reserve(world.inventory, 1, warm)
  const running = await start(subject, world.env)
  try {
    await until("the first records", 60, async () => (await inserted(world)) >= before + warm)
    running.pause()
    await bench.topics.reserve(world.inventory, warm + 1, count)
    await world.query("CHECKPOINT")
    const [cpu, began] = [running.cpu(), nowMicros()]
    running.resume()
    await until("all records", 120, async () => (await inserted(world)) >= before + warm + count)
    const used = running.cpu() - cpu
    await until(
      "the offsets",
      20,
      async () => (await bench.topics.committed(world.group, world.inventory)) === warm + count
    )
    const [row] = await world.query<{ readonly last: number }>(
      "SELECT extract(epoch FROM created_at)::float8 * 1e6 AS last FROM event ORDER BY id DESC LIMIT 1"
    )
    return { value: (count * 1e6) / (row!.last - began), cpu: used / count }
  } finally {
    await running.stop()
  }
}

const sizes: Record<string, number> = { payments: 100_000, batched: 100_000, naive: 5_000 }

/** Topic `inventory` on 4 partitions → payments and events. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const subjects = [ours("consumer"), floor("Ingest", "batched"), floor("Ingest", "naive")]
  const rows = await compare(bench, "ingest", "records/s", subjects, (subject) =>
    inWorld(bench, async (world) => {
      const count = sizes[subject.name]!
      const sample = await ingest(bench, world, subject, count)
      await Check.reserved(world, count + Math.min(8_000, count))
      return sample
    }))
  const [own, batched, naive] = rows
  return {
    rows,
    verdicts: [
      atLeast("ingest", "ours / batched", own!.median / batched!.median, 1),
      atLeast("ingest", "ours / naive", own!.median / naive!.median, 10),
      atMost("ingest", "CPU, ours / batched", own!.cpu / batched!.cpu, 1.3)
    ]
  }
}
