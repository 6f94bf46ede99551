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

/** Long enough for work that runs once in half a minute or a minute. */
const seconds = 60

/** Transactions of the database, read from another database, so that the query does not count itself. */
const transactions = async ({ servers }: Bench, world: World) => {
  const [row] = await administer<{ readonly n: string }>(
    servers,
    `SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = '${world.group}'`
  )
  return Number(row!.n)
}

/** CPU and queries a second of an idle process. */
const idle = (bench: Bench, subject: Subject, queries: Array<number>): Case<Sample> => ({
  name: subject.name,
  measure: () =>
    inWorld(bench, async (world) => {
      const running = await start(subject, world.env)
      try {
        // skips the end of the start: for ten seconds it closes its connections, for half a minute V8 compiles and collects
        // garbage
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

/** Idle, fully connected processes, measured at the same time, once. */
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
