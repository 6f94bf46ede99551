import { sleep } from "./Clock.js"
import { nanosOf } from "./Cpu.js"
import type { Bench, Case, Outcome, Sample } from "./Harness.js"
import { inWorld, row, sample } from "./Harness.js"
import { median } from "./Stats.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atMost } from "./Table.js"
import type { World } from "./World.js"
import { administer } from "./World.js"

/** Long enough for what happens once in half a minute, or in a minute. */
const seconds = 60

/** Transactions of the database, told by another one: the question does not count itself. */
const transactions = async ({ servers }: Bench, world: World) => {
  const [row] = await administer<{ readonly n: string }>(
    servers,
    `SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = '${world.group}'`
  )
  return Number(row!.n)
}

/** CPU of a process that has nothing to do; tells how many queries a second it makes. */
const idle = (bench: Bench, subject: Subject, queries: Array<number>): Case<Sample> => ({
  name: subject.name,
  measure: () =>
    inWorld(bench, async (world) => {
      const running = await start(subject, world.env)
      try {
        // what the start left behind is not idleness: connections that it alone needed are closed after ten seconds, and code
        // that became hot is compiled, and garbage collected, for half a minute
        await sleep(40_000)
        const [cpu, before] = [nanosOf(running.pid), await transactions(bench, world)]
        await sleep(seconds * 1000)
        queries.push(((await transactions(bench, world)) - before) / seconds)
        return sample((nanosOf(running.pid) - cpu) / 1e6 / seconds)
      } finally {
        await running.stop()
      }
    })
})

/** Processes that are connected to everything, and have nothing to do, at the same time: once. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const queries: Array<number> = []
  const cases = [idle(bench, ours(), queries), idle(bench, floor("Idle", "stock"), [])]
  bench.say("idle  a minute and a half")
  const measured = await Promise.all(cases.map(({ measure }) => measure().catch((error: Error) => error)))
  const rows = cases.map(({ name }, i) => row("idle", "ms CPU/s", name, [measured[i]!]))
  return {
    rows,
    verdicts: [
      atMost("idle", "CPU, ours / stock kafkajs", rows[0]!.median / rows[1]!.median, 0.15),
      atMost("idle", "queries a second", median(queries), 1)
    ]
  }
}
