import * as Check from "./Check.js"
import { nowMicros, sleep, until } from "./Clock.js"
import type { Bench, Case, Outcome } from "./Harness.js"
import { alternate, inWorld, row, sample } from "./Harness.js"
import { readOf } from "./Record.js"
import * as Settle from "./Settle.js"
import { quantile } from "./Stats.js"
import type { Subject } from "./Subject.js"
import { exactlyOnce, floor, ours, start } from "./Subject.js"
import type { Row } from "./Table.js"
import { atMost } from "./Table.js"
import { reservation } from "./Topics.js"
import type { World } from "./World.js"

const seconds = 5
/** Warm-up orders before the measurement, as fast as possible, so that compiling is not measured. */
const warm = { calls: 10_000, records: 20_000 }

/** Results of one run, in milliseconds. */
interface Latency {
  readonly p50: number
  readonly p99: number
}

const latency = (millis: ReadonlyArray<number>): Latency => ({
  p50: quantile(millis, 0.5),
  p99: quantile(millis, 0.99)
})

/** Runs subjects together, and stops them all. */
const withAll = async <A>(subjects: ReadonlyArray<Subject>, world: World, use: (grpc: string) => Promise<A>) => {
  const all = []
  try {
    for (const subject of subjects) all.push(await start(subject, world.env))
    return await use(all[0]!.grpc)
  } finally {
    await Promise.all(all.map((running) => running.stop()))
  }
}

/** Follows topic `payment`. Returns the time at which each body was read. */
const readings = async (bench: Bench, world: World) => {
  const read = new Map<string, number>()
  let records = 0
  const end = await bench.topics.follow(world.payment, ({ atMicros, value }) => {
    records++
    read.set(value, atMicros)
  })
  const some = (count: number) => until(`${count} records`, 20, () => Promise.resolve(records >= count))
  const all = async (count: number) => {
    await some(count)
    await end()
    if (records !== count || read.size !== count) throw new Check.CheckFailed(`${records} records, not ${count}`)
    return read
  }
  return { some, all }
}

/** From the insert of the event, right before its commit, to the reader. */
const sinceInsert = async (world: World, read: ReadonlyMap<string, number>) => {
  const events = await world.query<{ readonly payload: string; readonly at: number }>(
    "SELECT payload, extract(epoch FROM created_at)::float8 * 1e6 AS at FROM event ORDER BY id"
  )
  return events.map(({ at, payload }) => (read.get(payload)! - at) / 1000)
}

/** Measures in turns. Returns the rows of each percentile, and their targets. */
export const percentiles = async (bench: Bench, figure: string, cases: ReadonlyArray<Case<Latency>>) => {
  const all = await alternate(
    bench,
    figure,
    cases,
    ({ p50, p99 }) => `p50 ${p50.toFixed(1)} ms  p99 ${p99.toFixed(1)} ms`
  )
  const of = (name: "p50" | "p99"): ReadonlyArray<Row> =>
    cases.map((_, i) =>
      row(
        `${figure}, ${name}`,
        "ms",
        _.name,
        all[i]!.map((run) => run instanceof Error ? run : sample(run[name]))
      )
    )
  return { p50: of("p50"), p99: of("p99") }
}

/** From the commit of a settlement to a reader of topic `payment`, at so many settlements a second. */
export const settle = (
  bench: Bench,
  rate: number,
  name: string,
  subjects: ReadonlyArray<Subject>
): Case<Latency> => ({
  name,
  measure: () =>
    inWorld(bench, async (world) => {
      const count = rate * seconds
      await Settle.fill(world, warm.calls + count)
      return await withAll(subjects, world, async (target) => {
        const reader = await readings(bench, world)
        Settle.allOk(await bench.load.run({ target, callers: 50, orders: { first: 1, count: warm.calls } }))
        await reader.some(warm.calls)
        Settle.allOk(await bench.load.run({ target, callers: 50, rate, orders: { first: warm.calls + 1, count } }))
        return latency((await sinceInsert(world, await reader.all(warm.calls + count))).slice(warm.calls))
      })
    })
})

const afterCommit = async (bench: Bench, rate: number): Promise<Outcome> => {
  const figure = `commit → record, ${rate}/s`
  const count = rate * seconds
  const publish = floor("Publish", "bare", { WARM: String(warm.calls), RATE: String(rate), COUNT: String(count) })
  const bare: Case<Latency> = {
    name: "bare commit and send",
    measure: () =>
      inWorld(bench, async (world) => {
        const reader = await readings(bench, world)
        return await withAll([publish], world, async () =>
          latency((await sinceInsert(world, await reader.all(warm.calls + count))).slice(warm.calls)))
      })
  }
  const { p50, p99 } = await percentiles(bench, figure, [
    settle(bench, rate, "payments", [ours("grpc", "relay")]),
    settle(bench, rate, "payments, 2 processes", [ours("grpc"), ours("relay")]),
    settle(bench, rate, "payments, exactly-once", [exactlyOnce("grpc", "relay")]),
    bare
  ])
  const [own, apart, , least] = p50
  return {
    rows: [...p50, ...p99],
    verdicts: [
      atMost(`${figure}, p50`, "ours / bare", own!.median / least!.median, 2),
      atMost(`${figure}, p99`, "ours / bare", p99[0]!.median / p99[3]!.median, 4),
      atMost(`${figure}, p50`, "2 processes / bare", apart!.median / least!.median, 3)
    ]
  }
}

/** From an inventory record, right before it is sent, to a reader of its `CREATED` record. */
const afterRecord = async (bench: Bench, rate: number): Promise<Outcome> => {
  const figure = `record → record, ${rate}/s`
  const count = rate * seconds
  const of = (name: string, subjects: ReadonlyArray<Subject>): Case<Latency> => ({
    name,
    measure: () =>
      inWorld(bench, (world) =>
        withAll(subjects, world, async () => {
          const reader = await readings(bench, world)
          const sent: Array<number> = []
          const sends: Array<Promise<unknown>> = []
          const send = () => {
            sent.push(nowMicros())
            sends.push(bench.topics.send(world.inventory, reservation(sent.length)))
          }
          while (sent.length < warm.records) {
            send()
            if (sent.length % 100 === 0) await Promise.all(sends)
          }
          await reader.some(warm.records)
          const began = performance.now()
          for (let n = 0; n < count; n++) {
            await sleep(Math.max(0, began + (n * 1000) / rate - performance.now()))
            send()
          }
          await Promise.all(sends)
          const millis = new Array<number>(warm.records + count)
          for (const [value, at] of await reader.all(warm.records + count)) {
            const order = Number(readOf(value).order)
            millis[order - 1] = (at - sent[order - 1]!) / 1000
          }
          return latency(millis.slice(warm.records))
        }))
  })
  const { p50, p99 } = await percentiles(bench, figure, [
    of("payments", [ours("consumer", "relay")]),
    of("batched, 20 ms poll", [floor("Ingest", "batched"), floor("Relay", "batched")])
  ])
  return {
    rows: [...p50, ...p99],
    verdicts: [
      atMost(`${figure}, p50`, "ours / batched", p50[0]!.median / p50[1]!.median, 0.4),
      atMost(`${figure}, p99`, "ours / batched", p99[0]!.median / p99[1]!.median, 0.3),
      atMost(`${figure}, p50`, "ours, ms (tuned Go service)", p50[0]!.median, 7.7),
      atMost(`${figure}, p99`, "ours, ms (tuned Go service)", p99[0]!.median, 14.8)
    ]
  }
}

/** Time from an event to its reader. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const all = [await afterCommit(bench, 200), await afterRecord(bench, 100), await afterRecord(bench, 200)]
  return { rows: all.flatMap(({ rows }) => rows), verdicts: all.flatMap(({ verdicts }) => verdicts) }
}
