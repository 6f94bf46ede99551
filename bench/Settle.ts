import * as Check from "./Check.js"
import type { Bench, Outcome, Sample } from "./Harness.js"
import { compare, inWorld } from "./Harness.js"
import type { Generator, Load } from "./Load.js"
import { generator } from "./Load.js"
import type { Subject } from "./Subject.js"
import { floor, ours, start } from "./Subject.js"
import { atLeast, atMost } from "./Table.js"
import type { World } from "./World.js"

/** Payments of the orders from 1 to `count`, which wait to be settled. */
export const fill = async (world: World, count: number) => {
  await world.query(
    `INSERT INTO payment (order_id, status, inventory_key)
     SELECT n, 'CREATED', gen_random_uuid() FROM generate_series(1, $1::bigint) AS n`,
    [count]
  )
  await world.query("VACUUM ANALYZE payment")
  await world.query("CHECKPOINT")
}

const allOk = (load: Load) => {
  if (load.ok !== load.calls) throw new Check.CheckFailed(`${load.calls - load.ok} of ${load.calls} calls failed`)
}

const measure = async (load: Generator, world: World, subject: Subject, callers: number, count: number) => {
  const warm = Math.min(3_000, count)
  await fill(world, warm + count)
  const running = await start(subject, world.env)
  try {
    allOk(await load.run({ target: running.grpc, callers, orders: { first: 1, count: warm } }))
    const cpu = running.cpu()
    const seen = await load.run({ target: running.grpc, callers, orders: { first: warm + 1, count } })
    const used = running.cpu() - cpu
    allOk(seen)
    await Check.settled(world, warm + count)
    return { value: seen.rate, cpu: used / count } satisfies Sample
  } finally {
    await running.stop()
  }
}

/** `UpdatePaymentStatus`, each call for an order of its own. */
export const run = async (bench: Bench): Promise<Outcome> => {
  const load = await generator(bench.say)
  bench.say(`gRPC load comes from ${load.name}`)
  const subjects = [ours("grpc"), floor("Settle", "batched"), floor("Settle", "naive")]
  const of = async (callers: number, counts: Record<string, number>) => {
    const name = `gRPC, ${callers === 1 ? "1 caller" : `${callers} callers`}`
    const rows = await compare(
      bench,
      name,
      "calls/s",
      subjects,
      (subject) => inWorld(bench, (world) => measure(load, world, subject, callers, counts[subject.name]!))
    )
    return { name, rows, own: rows[0]!, batched: rows[1]! }
  }
  const many = await of(128, { payments: 20_000, batched: 10_000, naive: 4_000 })
  const one = await of(1, { payments: 2_000, batched: 2_000, naive: 1_000 })
  return {
    rows: [...many.rows, ...one.rows],
    verdicts: [
      atLeast(many.name, "ours / batched", many.own.median / many.batched.median, 2.5),
      atMost(many.name, "CPU, ours / batched", many.own.cpu / many.batched.cpu, 1.3),
      atLeast(one.name, "ours / batched", one.own.median / one.batched.median, 0.9),
      atMost(one.name, "CPU, ours / batched", one.own.cpu / one.batched.cpu, 1.3)
    ]
  }
}
