/** What a fault did to the system. */
export interface Outcome {
  readonly kind: string
  /** From the end of the fault; none when it did not recover in time. */
  readonly recovery: number | undefined
}

const seconds = (value: number | undefined) => value === undefined ? "never" : `${value.toFixed(2)} s`

const ofKind = (outcomes: ReadonlyArray<Outcome>) => {
  const sorted = outcomes.map(({ recovery }) => recovery ?? Infinity).sort((a, b) => a - b)
  const show = (value: number | undefined) => seconds(value === Infinity ? undefined : value)
  // the lower of two middles
  return { count: sorted.length, median: show(sorted[(sorted.length - 1) >> 1]), worst: show(sorted.at(-1)) }
}

/** Faults by kind, how often, and the time to recover. */
export const table = (outcomes: ReadonlyArray<Outcome>): string => {
  const kinds = [...new Set(outcomes.map(({ kind }) => kind))].sort()
  const line = (kind: string, count: string, median: string, worst: string) =>
    `${kind.padEnd(38)}${count.padStart(6)}${median.padStart(10)}${worst.padStart(10)}`
  const row = (kind: string, { count, median, worst }: ReturnType<typeof ofKind>) =>
    line(kind, String(count), median, worst)
  return [
    line("fault", "count", "median", "worst"),
    ...kinds.map((kind) => row(kind, ofKind(outcomes.filter((_) => _.kind === kind)))),
    ...(outcomes.length === 0 ? [] : [row("all", ofKind(outcomes))])
  ].join("\n")
}
