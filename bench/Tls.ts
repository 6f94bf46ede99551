import type { Bench, Outcome } from "./Harness.js"
import { compare } from "./Harness.js"
import { intake } from "./Ingest.js"
import * as Latency from "./Latency.js"
import { backlog } from "./Relay.js"
import * as Settle from "./Settle.js"
import { exactlyOnce, ours } from "./Subject.js"

/** The same work in plaintext, and with TLS to all three servers and a token on each gRPC call, in turns. */
export const run = async (plain: Bench, encrypted: Bench): Promise<Outcome> => {
  const both = [["plaintext", plain], ["TLS", encrypted]] as const
  const rows = [
    ...await compare(
      plain,
      "ingest, TLS",
      "records/s",
      both.map(([name, bench]) => intake(bench, ours("consumer"), 100_000, { name }))
    ),
    ...await compare(
      plain,
      "relay, TLS",
      "events/s",
      [ours("relay"), exactlyOnce("relay")].flatMap((subject) =>
        both.map(([name, bench]) => backlog(bench, subject, 50_000, { name: `${subject.name}, ${name}` }))
      )
    )
  ]
  for (const [callers, count] of [[128, 20_000], [1, 3_000]] as const) {
    const cases = both.map(([name, bench]) => Settle.calls(bench, [], { ...ours("grpc"), name }, callers, count))
    rows.push(...await compare(plain, `${Settle.nameOf(callers)}, TLS`, "calls/s", cases))
  }
  const rate = 200
  const { p50, p99 } = await Latency.percentiles(
    plain,
    `commit → record, ${rate}/s, TLS`,
    both.map(([name, bench]) => Latency.settle(bench, rate, name, [ours("grpc", "relay")]))
  )
  return { rows: [...rows, ...p50, ...p99], verdicts: [] }
}
