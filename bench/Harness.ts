import type { Cost } from "./Cpu.js"
import { uncounted } from "./Cpu.js"
import type { Generator } from "./Load.js"
import type { Servers } from "./Stack.js"
import { median } from "./Stats.js"
import type { Row, Verdict } from "./Table.js"
import * as Table from "./Table.js"
import type { Topics } from "./Topics.js"
import type { Template, World } from "./World.js"
import * as Worlds from "./World.js"

/** The context of a figure. */
export interface Bench {
  readonly servers: Servers
  readonly topics: Topics
  readonly load: Generator
  readonly rounds: number
  readonly say: (line: string) => void
}

/** Result of one run: a rate, time or size, and the CPU of one item. */
export interface Sample {
  readonly value: number
  readonly cost: Cost
}

export const sample = (value: number, cost: Cost = uncounted): Sample => ({ value, cost })

/** Result of a figure: rows for the table, and the targets. */
export interface Outcome {
  readonly rows: ReadonlyArray<Row>
  readonly verdicts: ReadonlyArray<Verdict>
}

/** One of the compared cases. */
export interface Case<A> {
  readonly name: string
  readonly measure: () => Promise<A>
}

/** Runs `use` in a new world. */
export const inWorld = async <A>(
  { servers, topics }: Bench,
  use: (world: World) => Promise<A>,
  template: Template = "bench_empty"
): Promise<A> => {
  const world = await Worlds.make(servers, topics, template)
  try {
    return await use(world)
  } finally {
    await world.drop()
  }
}

/** The row of samples that may be missing. */
export const row = (figure: string, unit: string, subject: string, samples: ReadonlyArray<Sample | Error>): Row => {
  const good = samples.filter((_): _ is Sample => !(_ instanceof Error))
  const middle = (of: (sample: Sample) => number) => good.length === 0 ? Number.NaN : median(good.map(of))
  const values = good.map(({ value }) => value)
  return {
    figure,
    subject,
    unit,
    median: middle(({ value }) => value),
    low: Math.min(...values),
    high: Math.max(...values),
    cost: {
      own: middle(({ cost }) => cost.own),
      postgres: middle(({ cost }) => cost.postgres),
      kafka: middle(({ cost }) => cost.kafka)
    },
    runs: good.length,
    failed: samples.length - good.length
  }
}

/**
 * Measures each case once a round, the order turned in every other round. A run whose outcome is wrong, or that ends in
 * another way than it should, has no figure; the reason is told.
 */
export const alternate = async <A>(
  { rounds, say }: Pick<Bench, "rounds" | "say">,
  figure: string,
  cases: ReadonlyArray<Case<A>>,
  tell: (measured: A) => string
): Promise<ReadonlyArray<ReadonlyArray<A | Error>>> => {
  const measured = cases.map(() => new Array<A | Error>())
  const width = Math.max(...cases.map(({ name }) => name.length))
  const turn = [...cases.entries()]
  for (let round = 1; round <= rounds; round++) {
    for (const [i, { measure, name }] of round % 2 === 1 ? turn : [...turn].reverse()) {
      const what = `${figure}  ${round}/${rounds}  ${name.padEnd(width)}`
      try {
        const seen = await measure()
        measured[i]!.push(seen)
        say(`${what}  ${tell(seen)}`)
      } catch (error) {
        const failure = error instanceof Error ? error : new Error(String(error))
        measured[i]!.push(failure)
        say(`${what}  no figure: ${failure.message}`)
      }
    }
  }
  return measured
}

/** The rows of cases that answer one sample each. */
export const compare = async (
  bench: Pick<Bench, "rounds" | "say">,
  figure: string,
  unit: string,
  cases: ReadonlyArray<Case<Sample>>
): Promise<ReadonlyArray<Row>> => {
  const all = await alternate(
    bench,
    figure,
    cases,
    ({ cost, value }) =>
      `${Table.number(value)} ${unit}${Number.isNaN(cost.own) ? "" : `  ${Table.number(cost.own)} µs CPU each`}`
  )
  return cases.map(({ name }, i) => row(figure, unit, name, all[i]!))
}
