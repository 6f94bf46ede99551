import * as Check from "./Check.js"
import { until } from "./Clock.js"
import type { Bench, Outcome, Sample } from "./Harness.js"
import { alternate, inWorld, row, sample } from "./Harness.js"
import { inserted, isDrained } from "./Outbox.js"
import { ours, start } from "./Subject.js"
import { atMost, number } from "./Table.js"

/** Resident memory of the whole program after 100,000 and after a million records whose events are published. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const [runs] = await alternate({ ...bench, rounds: 1 }, "memory", [{
    name: "payments",
    measure: () =>
      inWorld(bench, async (world) => {
        const running = await start(ours(), world.env)
        const after = async (first: number, last: number): Promise<Sample> => {
          await bench.topics.reserve(world.inventory, first, last - first + 1)
          await until(`${last} records`, 400, async () => (await inserted(world)) >= last, 200)
          await until("all events", 400, () => isDrained(world), 200)
          const size = running.memory()
          bench.say(`memory  ${number(last)} records  ${number(size)} MB`)
          return sample(size)
        }
        try {
          const few = await after(1, 100_000)
          const many = await after(100_001, 1_000_000)
          await Check.reserved(world, 1_000_000)
          return { few, many }
        } finally {
          await running.stop()
        }
      })
  }], ({ few, many }) => `${number(many.value / few.value)} times`)
  const of = (name: "few" | "many") => runs!.map((run) => run instanceof Error ? run : run[name])
  const many = row("memory", "MB", "after 1,000,000 records", of("many"))
  const few = row("memory", "MB", "after 100,000 records", of("few"))
  return {
    rows: [many, few],
    verdicts: [
      atMost("memory", "after 1,000,000 / after 100,000", many.median / few.median, 1.15),
      atMost("memory", "MB after 1,000,000", many.median, 250)
    ]
  }
}
