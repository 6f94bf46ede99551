import * as Check from "./Check.js"
import { nowMicros, sleep, until } from "./Clock.js"
import type { Bench, Outcome } from "./Harness.js"
import { inWorld } from "./Harness.js"
import { generator } from "./Load.js"
import { readOf } from "./Record.js"
import * as Settle from "./Settle.js"
import { quantile } from "./Stats.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import type { Row } from "./Table.js"
import { atMost } from "./Table.js"
import { reservation } from "./Topics.js"
import type { World } from "./World.js"

const seconds = 8

/** Runs subjects together, and stops them all. */
const withAll = async <A>(
  subjects: ReadonlyArray<Subject>,
  world: World,
  env: Record<string, string>,
  use: (grpc: string) => Promise<A>
) => {
  const all = []
  try {
    for (const subject of subjects) all.push(await start(subject, { ...world.env, ...env }))
    return await use(all[0]!.grpc)
  } finally {
    await Promise.all(all.map((running) => running.stop()))
  }
}

/** Follows topic `payment`; answers when each body was read. */
const readings = async (bench: Bench, world: World) => {
  const read = new Map<string, number>()
  let records = 0
  const end = await bench.topics.follow(world.payment, ({ atMicros, value }) => {
    records++
    read.set(value, atMicros)
  })
  const all = async (count: number) => {
    await until(`${count} records`, 20, () => Promise.resolve(records >= count))
    await end()
    if (records !== count || read.size !== count) throw new Check.CheckFailed(`${records} records, not ${count}`)
    return read
  }
  return { all }
}

/** What the runtime compiles in the first second is not counted. */
const measured = (millis: ReadonlyArray<number>, rate: number) => millis.slice(rate)

/** From the insert of the event, right before its commit, to the reader. */
const sinceInsert = async (world: World, read: ReadonlyMap<string, number>, rate: number) => {
  const events = await world.query<{ readonly payload: string; readonly at: number }>(
    "SELECT payload, extract(epoch FROM created_at)::float8 * 1e6 AS at FROM event ORDER BY id"
  )
  return measured(events.map(({ at, payload }) => (read.get(payload)! - at) / 1000), rate)
}

const rowsOf = (figure: string, subject: string, millis: ReadonlyArray<number>): ReadonlyArray<Row> =>
  ([["p50", 0.5], ["p99", 0.99]] as const).map(([name, q]) => ({
    figure: `${figure}, ${name}`,
    subject,
    unit: "ms",
    median: quantile(millis, q),
    low: Math.min(...millis),
    high: Math.max(...millis),
    cpu: Number.NaN,
    runs: 1,
    failed: 0
  }))

/** Latencies from the commit of a settlement to a reader of topic `payment`. */
const afterCommit = async (bench: Bench, rate: number) => {
  const load = await generator(bench.say)
  const figure = `commit → record, ${rate}/s`
  const count = rate * seconds
  const settle = (subjects: ReadonlyArray<Subject>) =>
    inWorld(bench, async (world) => {
      await Settle.fill(world, count)
      return await withAll(subjects, world, {}, async (target) => {
        const reader = await readings(bench, world)
        await load.run({ target, callers: 50, rate, orders: { first: 1, count } })
        return await sinceInsert(world, await reader.all(count), rate)
      })
    })
  const bare = () =>
    inWorld(bench, async (world) => {
      const reader = await readings(bench, world)
      return await withAll([floor("Publish", "bare")], world, { RATE: String(rate), COUNT: String(count) }, async () =>
        await sinceInsert(world, await reader.all(count), rate))
    })
  const tell = (subject: string, millis: ReadonlyArray<number>) => {
    const rows = rowsOf(figure, subject, millis)
    bench.say(
      `${figure}  ${subject.padEnd(22)}  p50 ${rows[0]!.median.toFixed(1)} ms  p99 ${rows[1]!.median.toFixed(1)} ms`
    )
    return rows
  }
  const own = tell("payments", await settle([ours("grpc", "relay")]))
  const apart = tell("payments, 2 processes", await settle([ours("grpc"), ours("relay")]))
  const floorRows = tell("bare commit and send", await bare())
  return {
    rows: [own, apart, floorRows],
    verdicts: [
      atMost(`${figure}, p50`, "ours / bare", own[0]!.median / floorRows[0]!.median, 2),
      atMost(`${figure}, p99`, "ours / bare", own[1]!.median / floorRows[1]!.median, 4),
      atMost(`${figure}, p50`, "2 processes / bare", apart[0]!.median / floorRows[0]!.median, 3)
    ]
  }
}

/** Latencies from an inventory record, right before it is sent, to a reader of its `CREATED` record. */
const afterRecord = async (bench: Bench, rate: number) => {
  const figure = `record → record, ${rate}/s`
  const count = rate * seconds
  const of = (name: string, subjects: ReadonlyArray<Subject>) =>
    inWorld(bench, (world) =>
      withAll(subjects, world, {}, async () => {
        const reader = await readings(bench, world)
        const sent: Array<number> = []
        const began = performance.now()
        const sends: Array<Promise<unknown>> = []
        for (let order = 0; order < count; order++) {
          await sleep(Math.max(0, began + (order * 1000) / rate - performance.now()))
          sent.push(nowMicros())
          sends.push(bench.topics.send(world.inventory, reservation(order + 1)))
        }
        await Promise.all(sends)
        const millis = new Array<number>(count)
        for (const [value, at] of await reader.all(count)) {
          const order = Number(readOf(value).order)
          millis[order - 1] = (at - sent[order - 1]!) / 1000
        }
        const rows = rowsOf(figure, name, measured(millis, rate))
        bench.say(
          `${figure}  ${name.padEnd(22)}  p50 ${rows[0]!.median.toFixed(1)} ms  p99 ${rows[1]!.median.toFixed(1)} ms`
        )
        return rows
      }))
  const own = await of("payments", [ours("consumer", "relay")])
  const floors = await of("batched, 20 ms poll", [floor("Ingest", "batched"), floor("Relay", "batched")])
  return {
    rows: [own, floors],
    verdicts: [
      atMost(`${figure}, p50`, "ours / batched", own[0]!.median / floors[0]!.median, 0.4),
      atMost(`${figure}, p99`, "ours / batched", own[1]!.median / floors[1]!.median, 0.3),
      atMost(`${figure}, p50`, "ours, ms (tuned Go service)", own[0]!.median, 7.7),
      atMost(`${figure}, p99`, "ours, ms (tuned Go service)", own[1]!.median, 14.8)
    ]
  }
}

/** How long an event takes to its reader. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const all = [await afterCommit(bench, 200), await afterRecord(bench, 100), await afterRecord(bench, 200)]
  const rows = all.flatMap(({ rows }) => rows)
  return {
    rows: [...rows.flat()].sort((a, b) => a.figure.localeCompare(b.figure)),
    verdicts: all.flatMap(({ verdicts }) => verdicts)
  }
}
