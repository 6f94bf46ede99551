import type { Finding, Kind } from "./Finding.js"
import { kinds } from "./Finding.js"

/** A kind of finding: its count and first examples. */
export interface Tallied {
  readonly kind: Kind
  readonly count: number
  readonly examples: ReadonlyArray<Finding>
}

/** Counts findings, and keeps up to `limit` examples of each kind. */
export const make = (limit: number) => {
  const found = new Map<Kind, { count: number; readonly examples: Array<Finding> }>()
  return {
    add: (finding: Finding) => {
      const entry = found.get(finding.kind) ?? { count: 0, examples: [] }
      entry.count++
      if (entry.examples.length < limit) entry.examples.push(finding)
      found.set(finding.kind, entry)
    },
    /** All kinds with findings, in the order of `kinds`: faults first. */
    all: (): ReadonlyArray<Tallied> =>
      Object.keys(kinds).flatMap((name) => {
        const kind = name as Kind
        const entry = found.get(kind)
        return entry === undefined ? [] : [{ kind, ...entry }]
      })
  } as const
}

export type Tally = ReturnType<typeof make>
