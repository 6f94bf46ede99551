import { sleep } from "./Clock.js"
import type { Bench, Outcome } from "./Harness.js"
import { attempt, inWorld, row } from "./Harness.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atMost } from "./Table.js"
import type { World } from "./World.js"

const seconds = 12

/** Transactions of the database, told by another one: the question does not count itself. */
const transactions = async (bench: Bench, world: World) => {
  const [row] = await bench.administer<{ readonly n: string }>(
    `SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = '${world.group}'`
  )
  return Number(row!.n)
}

/** CPU and queries of a process that is connected to everything, and has nothing to do. */
export const run = async (bench: Bench): Promise<Outcome> => {
  let queries = Number.NaN
  const measure = (subject: Subject) =>
    inWorld(bench, async (world) => {
      const running = await start(subject, world.env)
      try {
        // what the start left behind is not idleness
        await sleep(4_000)
        const [cpu, before] = [running.cpu(), await transactions(bench, world)]
        await sleep(seconds * 1000)
        if (subject.name === "payments") queries = ((await transactions(bench, world)) - before) / seconds
        return { value: (running.cpu() - cpu) / 1000 / seconds, cpu: Number.NaN }
      } finally {
        await running.stop()
      }
    })
  const rows = []
  for (const subject of [ours(), floor("Idle", "stock")]) {
    const what = `idle  ${subject.name.padEnd(9)}`
    rows.push(row("idle", "ms CPU/s", subject.name, [await attempt(bench, what, "ms CPU/s", () => measure(subject))]))
  }
  return {
    rows,
    verdicts: [
      atMost("idle", "CPU, ours / stock kafkajs", rows[0]!.median / rows[1]!.median, 0.15),
      atMost("idle", "queries a second", queries, 1)
    ]
  }
}
