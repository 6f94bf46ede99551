import type { Bench, Outcome } from "./Harness.js"
import { compare } from "./Harness.js"
import { intake } from "./Ingest.js"
import { backlog } from "./Relay.js"
import { ours } from "./Subject.js"
import { atLeast } from "./Table.js"
import * as World from "./World.js"

const history = { name: "after 10 M payments, 5 M events", template: "bench_history" } as const

/** The rates with a large history and a large backlog, against those with small ones. */
export const run = async (bench: Bench): Promise<Outcome> => {
  bench.say("growth  writing the history")
  await World.prepareHistory(bench.servers)
  const relay = "growth, relay"
  const twice = { ...bench, rounds: Math.min(bench.rounds, 2) }
  const [short, old] = await compare(twice, relay, "events/s", [
    backlog(bench, ours("relay"), 25_000, { name: "backlog of 50,000" }),
    backlog(bench, ours("relay"), 25_000, history)
  ])
  // long enough to be steady in one run
  const [long] = await compare({ ...bench, rounds: 1 }, relay, "events/s", [
    backlog(bench, ours("relay"), 500_000, { name: "backlog of 1,000,000" })
  ])
  const ingest = await compare(twice, "growth, ingest", "records/s", [
    intake(bench, ours("consumer"), 50_000, { name: "empty tables" }),
    intake(bench, ours("consumer"), 50_000, history)
  ])
  return {
    rows: [short!, long!, old!, ...ingest],
    verdicts: [
      atLeast(relay, "backlog 1,000,000 / 50,000", long!.median / short!.median, 0.85),
      atLeast(relay, "much history / none", old!.median / short!.median, 0.85),
      atLeast("growth, ingest", "much history / none", ingest[1]!.median / ingest[0]!.median, 0.85)
    ]
  }
}
