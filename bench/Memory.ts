import { until } from "./Clock.js"
import type { Bench, Outcome } from "./Harness.js"
import { inWorld, row } from "./Harness.js"
import { ours, start } from "./Subject.js"
import { atMost } from "./Table.js"
import type { World } from "./World.js"

const rowsOf = async (world: World) => {
  const [row] = await world.query<{ readonly n: string }>(
    "SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM event_id_seq"
  )
  return Number(row!.n)
}

const isDrained = async (world: World) =>
  (await world.query("SELECT FROM event WHERE status = 'WAIT' LIMIT 1")).length === 0

/** Resident memory of the whole program after 100,000 records and after a million. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const [few, many] = await inWorld(bench, async (world) => {
    const running = await start(ours(), world.env)
    try {
      const sizes: Array<number> = []
      for (const [first, count] of [[1, 100_000], [100_001, 900_000]] as const) {
        await bench.topics.reserve(world.inventory, first, count)
        await until("all records", 400, async () => (await rowsOf(world)) >= first + count - 1, 200)
        await until("all events", 400, () => isDrained(world), 200)
        sizes.push(running.memory())
        bench.say(`memory  ${(first + count - 1).toLocaleString("en")} records  ${Math.round(running.memory())} MB`)
      }
      return sizes
    } finally {
      await running.stop()
    }
  })
  const of = (value: number) => [{ value, cpu: Number.NaN }]
  return {
    rows: [row("memory", "MB", "after 1,000,000", of(many!)), row("memory", "MB", "after 100,000", of(few!))],
    verdicts: [
      atMost("memory", "after 1,000,000 / after 100,000", many! / few!, 1.15),
      atMost("memory", "MB after 1,000,000", many!, 250)
    ]
  }
}
