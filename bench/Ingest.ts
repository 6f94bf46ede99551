import * as Check from "./Check.js"
import { nowMicros, until } from "./Clock.js"
import * as Cpu from "./Cpu.js"
import type { Bench, Case, Outcome, Sample } from "./Harness.js"
import { compare, inWorld, sample } from "./Harness.js"
import { inserted } from "./Outbox.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atLeast, atMost } from "./Table.js"
import type { Template, World } from "./World.js"

/**
 * Takes in `count` records that all exist when the clock starts: the warm subject is stopped while they are written. Ends
 * with the last insert by the database's clock.
 */
const ingest = async (bench: Bench, world: World, subject: Subject, warm: number, count: number): Promise<Sample> => {
  const before = await inserted(world)
  await bench.topics.reserve(world.inventory, 1, warm)
  const running = await start(subject, world.env)
  try {
    await until("the first records", 60, async () => (await inserted(world)) >= before + warm)
    running.pause()
    await bench.topics.reserve(world.inventory, warm + 1, count)
    await world.query("CHECKPOINT")
    const spent = Cpu.count(bench.servers, running)
    const began = nowMicros()
    running.resume()
    await until("all records", 120, async () => (await inserted(world)) >= before + warm + count)
    const cost = spent(count)
    await until(
      "the offsets",
      20,
      async () => (await bench.topics.committed(world.group, world.inventory)) === warm + count
    )
    const [row] = await world.query<{ readonly last: number }>(
      "SELECT extract(epoch FROM created_at)::float8 * 1e6 AS last FROM event ORDER BY id DESC LIMIT 1"
    )
    return sample((count * 1e6) / (row!.last - began), cost)
  } finally {
    await running.stop()
  }
}

/** Intake of `count` records into a database like `template`. */
export const intake = (
  bench: Bench,
  subject: Subject,
  count: number,
  { name = subject.name, template }: { readonly name?: string; readonly template?: Template } = {}
): Case<Sample> => ({
  name,
  measure: () =>
    inWorld(bench, async (world) => {
      const warm = Math.min(8_000, count)
      const measured = await ingest(bench, world, subject, warm, count)
      await Check.reserved(world, warm + count)
      return measured
    }, template)
})

/** Topic `inventory` on 4 partitions → payments and events. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const rows = await compare(bench, "ingest", "records/s", [
    intake(bench, ours("consumer"), 100_000),
    intake(bench, floor("Ingest", "batched"), 100_000),
    intake(bench, floor("Ingest", "naive"), 4_000)
  ])
  const [own, batched, naive] = rows
  return {
    rows,
    verdicts: [
      atLeast("ingest", "ours / batched", own!.median / batched!.median, 1),
      atLeast("ingest", "ours / naive", own!.median / naive!.median, 10),
      atMost("ingest", "CPU, ours / batched", own!.cost.own / batched!.cost.own, 1.3)
    ]
  }
}
