import { writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { parseArgs } from "node:util"
import * as Growth from "./Growth.js"
import type { Bench, Outcome } from "./Harness.js"
import * as Idle from "./Idle.js"
import * as Ingest from "./Ingest.js"
import * as Latency from "./Latency.js"
import * as Memory from "./Memory.js"
import * as Relay from "./Relay.js"
import * as Settle from "./Settle.js"
import { withServers } from "./Stack.js"
import * as Start from "./Start.js"
import * as Table from "./Table.js"
import * as Topics from "./Topics.js"
import * as World from "./World.js"

const figures: Record<string, (bench: Bench) => Promise<Outcome>> = {
  ingest: Ingest.run,
  relay: Relay.run,
  grpc: Settle.run,
  latency: Latency.run,
  idle: Idle.run,
  memory: Memory.run,
  growth: Growth.run,
  start: Start.run
}

const help = `npm run bench -- [--only ${Object.keys(figures).join("|")}] [--rounds N] [--json FILE]

Measures the compiled program against the floors in bench/floors, on servers of its own with durability on.

  --only     these figures, comma-separated; all when none is named
  --rounds   how often each subject is measured (default 3)
  --json     writes rows and targets to a file
`

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    json: { type: "string" },
    help: { type: "boolean", default: false }
  }
})
const wanted = values.only?.split(",") ?? Object.keys(figures)
const rounds = Number(values.rounds)
const unknown = wanted.filter((name) => !Object.hasOwn(figures, name))

if (values.help) {
  process.stdout.write(help)
} else if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  process.stderr.write(unknown.length > 0 ? `there is no figure ${unknown.join(", ")}\n\n${help}` : help)
  process.exitCode = 2
} else {
  const began = performance.now()
  const say = (line: string) => {
    const seconds = Math.floor((performance.now() - began) / 1000)
    process.stderr.write(
      `${String(Math.floor(seconds / 60)).padStart(2)}:${String(seconds % 60).padStart(2, "0")}  ${line}\n`
    )
  }
  await withServers(say, async (servers) => {
    await World.prepare(servers)
    const topics = await Topics.connect(servers.brokers)
    const rows: Array<Table.Row> = []
    const verdicts: Array<Table.Verdict> = []
    for (const name of wanted) {
      const outcome = await figures[name]!({
        servers,
        topics,
        rounds,
        say,
        administer: (statement) => World.administer(servers, statement)
      })
      rows.push(...outcome.rows)
      verdicts.push(...outcome.verdicts)
    }
    await topics.close()
    const [cpu] = cpus()
    const machine = `${cpus().length} × ${cpu?.model ?? "unknown"}, ${
      Math.round(totalmem() / 2 ** 30)
    } GB, Node ${process.version}`
    process.stdout.write(`\n${machine}\n\n${Table.measured(rows)}\n\n${Table.judged(verdicts)}\n`)
    if (values.json !== undefined) {
      writeFileSync(values.json, JSON.stringify({ machine, rounds, rows, verdicts }, null, 2))
    }
  })
}
