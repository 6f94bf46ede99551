import * as Check from "./Check.js"
import * as Cpu from "./Cpu.js"
import type { Bench, Case, Outcome, Sample } from "./Harness.js"
import { compare, inWorld, row, sample } from "./Harness.js"
import type { Load } from "./Load.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atLeast, atMost } from "./Table.js"
import type { World } from "./World.js"

/** Creates payments of the orders from 1 to `count`, to be settled. */
export const fill = async (world: World, count: number) => {
  await world.query(
    `INSERT INTO payment (order_id, status, inventory_key)
     SELECT n, 'CREATED', gen_random_uuid() FROM generate_series(1, $1::bigint) AS n`,
    [count]
  )
  await world.query("VACUUM ANALYZE payment")
  await world.query("CHECKPOINT")
}

export const allOk = (load: Load) => {
  if (load.ok !== load.calls) throw new Check.CheckFailed(`${load.calls - load.ok} of ${load.calls} calls failed`)
}

/** Warm-up calls before the measurement, from the same number of callers, so that compiling is not measured. */
const warm = 3_000

export const nameOf = (callers: number) => `gRPC, ${callers === 1 ? "1 caller" : `${callers} callers`}`

/** Measures `UpdatePaymentStatus`, each call for another order. Also returns the generator's CPU a call. */
export const calls = (
  bench: Bench,
  generator: Array<number>,
  subject: Subject,
  callers: number,
  count: number,
  check: (world: World, count: number) => Promise<unknown> = Check.settled
): Case<Sample> => ({
  name: subject.name,
  measure: () =>
    inWorld(bench, async (world) => {
      await fill(world, warm + count)
      const running = await start(subject, world.env)
      try {
        allOk(await bench.load.run({ target: running.grpc, callers, orders: { first: 1, count: warm } }))
        const spent = Cpu.count(bench.servers, running)
        const seen = await bench.load.run({ target: running.grpc, callers, orders: { first: warm + 1, count } })
        const cost = spent(count)
        allOk(seen)
        await check(world, warm + count)
        generator.push(seen.cpu)
        return sample(seen.rate, cost)
      } finally {
        await running.stop()
      }
    })
})

/** Calls a second, by the number of callers. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const of = async (callers: number, counts: readonly [ours: number, batched: number, naive: number]) => {
    const name = nameOf(callers)
    const generator: Array<number> = []
    const subjects = [ours("grpc"), floor("Settle", "batched"), floor("Settle", "naive")]
    const rows = await compare(
      bench,
      name,
      "calls/s",
      subjects.map((subject, i) => calls(bench, generator, subject, callers, counts[i]!))
    )
    const load = row(`${name}, generator`, "µs CPU a call", bench.load.name, generator.map((micros) => sample(micros)))
    return { name, rows: [...rows, load], own: rows[0]!, batched: rows[1]! }
  }
  const many = await of(128, [20_000, 15_000, 5_000])
  const one = await of(1, [3_000, 3_000, 1_500])
  return {
    rows: [...many.rows, ...one.rows],
    verdicts: [
      atLeast(many.name, "ours / batched", many.own.median / many.batched.median, 2.5),
      atMost(many.name, "CPU, ours / batched", many.own.cost.own / many.batched.cost.own, 1.3),
      atLeast(one.name, "ours / batched", one.own.median / one.batched.median, 0.9),
      atMost(one.name, "CPU, ours / batched", one.own.cost.own / one.batched.cost.own, 1.3)
    ]
  }
}

/**
 * Upper bounds: a grpc-js server that settles nothing, a hand-written one with group commit, and the same with one fiber a
 * call.
 */
export const ceiling = async (bench: Bench): Promise<Outcome> => {
  const hand = (name: string, form: string): Subject => ({ ...floor("Ceiling", form), name })
  const of = (callers: number, count: number) =>
    compare(
      bench,
      nameOf(callers),
      "calls/s",
      [
        calls(bench, [], ours("grpc"), callers, count),
        calls(bench, [], floor("Settle", "batched"), callers, count),
        calls(bench, [], hand("groups by hand, a fiber each", "fibers"), callers, count),
        calls(bench, [], hand("groups by hand", "groups"), callers, count),
        calls(bench, [], hand("grpc-js alone", "alone"), callers, count, () => Promise.resolve())
      ]
    )
  return { rows: [...(await of(128, 20_000)), ...(await of(1, 3_000))], verdicts: [] }
}
