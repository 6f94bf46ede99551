import type { Cost } from "./Cpu.js"

/** The measurements of a subject. */
export interface Row {
  readonly figure: string
  readonly subject: string
  readonly unit: string
  readonly median: number
  readonly low: number
  readonly high: number
  readonly cost: Cost
  readonly runs: number
  /** Runs without a figure. */
  readonly failed: number
}

/** A target and the measured value. */
export interface Verdict {
  readonly figure: string
  readonly target: string
  readonly value: number
  readonly met: boolean
}

export const atLeast = (figure: string, what: string, value: number, limit: number): Verdict => ({
  figure,
  target: `${what} ≥ ${limit}`,
  value,
  met: value >= limit
})

export const atMost = (figure: string, what: string, value: number, limit: number): Verdict => ({
  figure,
  target: `${what} ≤ ${limit}`,
  value,
  met: value <= limit
})

export const number = (value: number) =>
  !Number.isFinite(value)
    ? "–"
    : Math.abs(value) >= 100
    ? Math.round(value).toLocaleString("en")
    : value.toFixed(value < 10 ? 2 : 1)

const render = (header: ReadonlyArray<string>, lines: ReadonlyArray<ReadonlyArray<string>>) => {
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]!.length)))
  const line = (cells: ReadonlyArray<string>) => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(" | ")} |`
  return [line(header), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...lines.map(line)].join("\n")
}

const costOf = ({ kafka, own, postgres }: Cost) =>
  Number.isNaN(own) ? "" : [own, postgres, kafka].map(number).join(" · ")

/** The rows as a Markdown table. The ratio divides the first row of a figure, which is ours, by each other row. */
export const measured = (rows: ReadonlyArray<Row>) =>
  render(
    ["figure", "subject", "median", "spread", "unit", "first / this", "CPU µs each: own · PostgreSQL · Kafka", "runs"],
    rows.map((row) => {
      const first = rows.find(({ figure }) => figure === row.figure)!
      return [
        row.figure,
        row.subject,
        number(row.median),
        `${number(row.low)} … ${number(row.high)}`,
        row.unit,
        row === first ? "" : number(first.median / row.median),
        costOf(row.cost),
        row.failed === 0 ? String(row.runs) : `${row.runs} (${row.failed} failed)`
      ]
    })
  )

export const judged = (verdicts: ReadonlyArray<Verdict>) =>
  render(
    ["figure", "target", "value", "met"],
    verdicts.map(({ figure, met, target, value }) => [figure, target, number(value), met ? "yes" : "NO"])
  )
