import { writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import { parseArgs } from "node:util"
import * as NodeBinary from "../test/harness/NodeBinary.js"
import * as Growth from "./Growth.js"
import type { Bench, Outcome } from "./Harness.js"
import * as Idle from "./Idle.js"
import * as Ingest from "./Ingest.js"
import * as Latency from "./Latency.js"
import * as Load from "./Load.js"
import * as Memory from "./Memory.js"
import * as Relay from "./Relay.js"
import * as Saga from "./Saga.js"
import * as Settle from "./Settle.js"
import type { Servers } from "./Stack.js"
import { withServers } from "./Stack.js"
import * as Start from "./Start.js"
import { runUnder } from "./Subject.js"
import * as Table from "./Table.js"
import * as Tls from "./Tls.js"
import * as Topics from "./Topics.js"
import * as World from "./World.js"
import * as Young from "./Young.js"

interface Figure {
  readonly about: string
  /** `encrypted`: the same on other servers, which speak TLS. */
  readonly run: (bench: Bench, encrypted: Bench | undefined) => Promise<Outcome>
  /** Explains others, and runs when it is asked for. */
  readonly aside?: true
}

const figures: Record<string, Figure> = {
  ingest: { about: "records a second from topic inventory into the database", run: Ingest.run },
  relay: { about: "events a second from the outbox onto topic payment, by either delivery", run: Relay.run },
  grpc: { about: "UpdatePaymentStatus, calls a second of 128 callers and of one", run: Settle.run },
  saga: { about: "all of it at the same time in one process", run: Saga.run },
  latency: { about: "from a commit, or a record, to the record that tells of it", run: Latency.run },
  idle: { about: "CPU and queries of a process with nothing to do", run: Idle.run },
  memory: { about: "resident memory after 100,000 records and after a million", run: Memory.run },
  growth: { about: "rates with a long backlog, and with a long history", run: Growth.run },
  start: { about: "from the start of the process to ready", run: Start.run },
  young: {
    about: "old heap that short-lived values take, with the tuning and without; only when it is named",
    run: Young.run,
    aside: true
  },
  tls: {
    about: "ingest, relay, grpc and latency in plaintext and encrypted; only when it is named",
    run: (bench, encrypted) => Tls.run(bench, encrypted!),
    aside: true
  },
  ceiling: { about: "what stands above our calls a second; only when it is named", run: Settle.ceiling, aside: true }
}

const help = `npm run bench -- [--only FIGURES] [--rounds N] [--node VERSION] [--json FILE]

Measures the compiled program against the floors in bench/floors, on servers of its own with durability on. Progress
goes to standard error, the tables to standard output. All figures take about a quarter of an hour. Ctrl-C ends
everything that was started, and deletes its data.

  --only FIGURES   these, comma-separated:
${Object.entries(figures).map(([name, { about }]) => `                     ${name.padEnd(9)}${about}`).join("\n")}
  --rounds N       how often each subject is measured (default 3)
  --node VERSION   runs the measured programs under this major version of Node, which npm fetches once into
                   .local/cache (default: the Node of this machine, which young always measures)
  --json FILE      writes rows, targets and times to a file
`

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    node: { type: "string", default: process.versions.node },
    json: { type: "string" },
    help: { type: "boolean", default: false }
  }
})
const wanted = values.only?.split(",") ??
  Object.entries(figures).flatMap(([name, { aside }]) => aside ? [] : [name])
const rounds = Number(values.rounds)
const major = Number.parseInt(values.node)
const unknown = wanted.filter((name) => !Object.hasOwn(figures, name))

const clockOf = (millis: number) => {
  const seconds = Math.floor(millis / 1000)
  return `${String(Math.floor(seconds / 60)).padStart(2)}:${String(seconds % 60).padStart(2, "0")}`
}

if (values.help) {
  process.stdout.write(help)
} else if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1 || !Number.isInteger(major)) {
  process.stderr.write(unknown.length > 0 ? `there is no figure ${unknown.join(", ")}\n\n${help}` : help)
  process.exitCode = 2
} else {
  const since = performance.now()
  const say = (line: string) => void process.stderr.write(`${clockOf(performance.now() - since)}  ${line}\n`)
  const node = await NodeBinary.find(major, () => say(`Node ${major}: fetching, only once`))
  if ("reason" in node) throw new Error(node.reason)
  runUnder(node.program)
  const connected = async (servers: Servers): Promise<Bench> => {
    await World.prepare(servers)
    const [topics, load] = [await Topics.connect(servers), await Load.generator(servers.env)]
    return { servers, topics, load, rounds, say }
  }
  await withServers(say, { encrypted: wanted.includes("tls") }, async (plainServers, encryptedServers) => {
    const bench = await connected(plainServers)
    const encrypted = encryptedServers === undefined ? undefined : await connected(encryptedServers)
    const { load } = bench
    say(`gRPC load comes from ${load.name}`)
    const rows: Array<Table.Row> = []
    const verdicts: Array<Table.Verdict> = []
    const seconds: Record<string, number> = {}
    for (const [i, name] of wanted.entries()) {
      const began = performance.now()
      say(`${name}: figure ${i + 1} of ${wanted.length}`)
      const outcome = await figures[name]!.run(bench, encrypted)
      rows.push(...outcome.rows)
      verdicts.push(...outcome.verdicts)
      seconds[name] = Math.round((performance.now() - began) / 1000)
      say(`${name}: took ${seconds[name]} s`)
    }
    await Promise.all([bench, encrypted].map((one) => one?.topics.close()))
    const [cpu] = cpus()
    const machine = `${cpus().length} × ${cpu?.model ?? "unknown"}, ${
      Math.round(totalmem() / 2 ** 30)
    } GB, Node v${node.version}`
    const took = Object.entries(seconds).map(([name, taken]) => `${name} ${taken} s`).join(", ")
    process.stdout.write(
      `\n${machine}; gRPC load from ${load.name}\n\n${Table.measured(rows)}\n\n` +
        (verdicts.length === 0 ? "" : `${Table.judged(verdicts)}\n\n`) +
        `took ${clockOf(performance.now() - since).trim()} min in all: ${took}\n`
    )
    if (values.json !== undefined) {
      writeFileSync(values.json, JSON.stringify({ machine, rounds, load: load.name, seconds, rows, verdicts }, null, 2))
    }
  })
}
