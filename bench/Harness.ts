import type { Servers } from "./Stack.js"
import { median } from "./Stats.js"
import type { Subject } from "./Subject.js"
import type { Row, Verdict } from "./Table.js"
import type { Topics } from "./Topics.js"
import type { World } from "./World.js"
import * as Worlds from "./World.js"

/** What a figure is measured with. */
export interface Bench {
  readonly servers: Servers
  readonly topics: Topics
  readonly rounds: number
  readonly say: (line: string) => void
  /** Runs a statement outside of any world. */
  readonly administer: <A extends object>(statement: string) => Promise<ReadonlyArray<A>>
}

/** What one run measured: a rate or a time, and the CPU of the subject for one item, in microseconds. */
export interface Sample {
  readonly value: number
  readonly cpu: number
}

/** What came of a figure: rows for the table, and the targets. */
export interface Outcome {
  readonly rows: ReadonlyArray<Row>
  readonly verdicts: ReadonlyArray<Verdict>
}

/** Runs `use` in a world of its own. */
export const inWorld = async <A>({ servers, topics }: Bench, use: (world: World) => Promise<A>): Promise<A> => {
  const world = await Worlds.make(servers, topics)
  try {
    return await use(world)
  } finally {
    await world.drop()
  }
}

const show = (value: number) => value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2)

/** The rows of samples that may be missing. */
export const row = (figure: string, unit: string, subject: string, samples: ReadonlyArray<Sample | Error>): Row => {
  const good = samples.filter((sample): sample is Sample => !(sample instanceof Error))
  const values = good.map(({ value }) => value)
  return {
    figure,
    subject,
    unit,
    median: values.length === 0 ? Number.NaN : median(values),
    low: Math.min(...values),
    high: Math.max(...values),
    cpu: good.length === 0 ? Number.NaN : median(good.map(({ cpu }) => cpu)),
    runs: good.length,
    failed: samples.length - good.length
  }
}

/** A run whose outcome is wrong, or that ends in another way than it should, has no figure; the reason is told. */
export const attempt = async (
  { say }: Bench,
  what: string,
  unit: string,
  measure: () => Promise<Sample>
): Promise<Sample | Error> => {
  try {
    const sample = await measure()
    say(`${what}  ${show(sample.value)} ${unit}${Number.isNaN(sample.cpu) ? "" : `  ${show(sample.cpu)} µs CPU each`}`)
    return sample
  } catch (error) {
    say(`${what}  no figure: ${error instanceof Error ? error.message : String(error)}`)
    return error instanceof Error ? error : new Error(String(error))
  }
}

/** Measures each subject once a round, the order turned in every other round. */
export const compare = async (
  bench: Bench,
  figure: string,
  unit: string,
  subjects: ReadonlyArray<Subject>,
  measure: (subject: Subject) => Promise<Sample>
): Promise<ReadonlyArray<Row>> => {
  const samples = new Map(subjects.map(({ name }) => [name, new Array<Sample | Error>()]))
  for (let round = 0; round < bench.rounds; round++) {
    for (const subject of round % 2 === 0 ? subjects : [...subjects].reverse()) {
      const what = `${figure}  ${round + 1}/${bench.rounds}  ${subject.name.padEnd(9)}`
      samples.get(subject.name)!.push(await attempt(bench, what, unit, () => measure(subject)))
    }
  }
  return subjects.map(({ name }) => row(figure, unit, name, samples.get(name)!))
}
