/** What a fault did to the system. */
export interface Outcome {
  readonly kind: string
  /** From the end of the fault; none when it did not recover in time. */
  readonly recovery: number | undefined
  /** Records that were sent again before the next fault began. */
  readonly resends: number
}

const seconds = (value: number | undefined) => value === undefined ? "never" : `${value.toFixed(2)} s`

const ofKind = (outcomes: ReadonlyArray<Outcome>) => {
  const sorted = outcomes.map(({ recovery }) => recovery ?? Infinity).sort((a, b) => a - b)
  const show = (value: number | undefined) => seconds(value === Infinity ? undefined : value)
  // the lower of two middles
  const resends = outcomes.reduce((sum, { resends }) => sum + resends, 0)
  return { count: sorted.length, median: show(sorted[(sorted.length - 1) >> 1]), worst: show(sorted.at(-1)), resends }
}

/** Faults by kind, how often, the time to recover, and what was sent again. */
export const table = (outcomes: ReadonlyArray<Outcome>): string => {
  const kinds = [...new Set(outcomes.map(({ kind }) => kind))].sort()
  const line = (kind: string, count: string, median: string, worst: string, resends: string) =>
    `${kind.padEnd(38)}${count.padStart(6)}${median.padStart(10)}${worst.padStart(10)}${resends.padStart(10)}`
  const row = (kind: string, { count, median, resends, worst }: ReturnType<typeof ofKind>) =>
    line(kind, String(count), median, worst, String(resends))
  return [
    line("fault", "count", "median", "worst", "resends"),
    ...kinds.map((kind) => row(kind, ofKind(outcomes.filter((_) => _.kind === kind)))),
    ...(outcomes.length === 0 ? [] : [row("all", ofKind(outcomes))])
  ].join("\n")
}
