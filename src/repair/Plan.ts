/** An event that a repair changes, as its preview saw it. The repair changes it only if it is still the same. */
export interface PlannedEvent {
  readonly id: string
  readonly order_id: string
  /** The status in its body. */
  readonly says: string | null
  readonly status: "WAIT" | "DONE" | "DEAD"
  readonly attempts: number
  readonly last_error: string | null
  readonly created_at: Date
  /** When it was marked `DONE`, with all digits of the database; null before. */
  readonly done_at: string | null
  /** Status of the payment; null without one. */
  readonly payment: string | null
  /** True when it was sent longer ago than the duplicate window of the readers. */
  readonly old: boolean
}

/** Why a repair leaves something out. */
export interface Why {
  readonly reason: string
  /** The command-line option that includes it anyway, or repairs it. */
  readonly option?: string
}

/** What was asked for and a repair leaves out, with the reason. */
export interface LeftOut extends Why {
  readonly count: number
  /** Up to three events or orders. */
  readonly examples: ReadonlyArray<string>
}

/** The preview of a repair of the outbox. */
export interface Plan {
  /** Oldest first; the events of an order are in their order. */
  readonly events: ReadonlyArray<PlannedEvent>
  readonly leftOut: ReadonlyArray<LeftOut>
  /** True when there are more events than one repair takes. */
  readonly more: boolean
}

/** The result of a repair. */
export interface Repaired {
  readonly changed: number
  /** Events that were not the same any more: another operator or a relay changed them meanwhile. */
  readonly unchanged: number
}

/** The most events of one repair. */
export const most = 100_000

/** Adds the results of the steps of a repair. */
export const sum = (steps: ReadonlyArray<Repaired>): Repaired => ({
  changed: steps.reduce((all, { changed }) => all + changed, 0),
  unchanged: steps.reduce((all, { unchanged }) => all + unchanged, 0)
})

/** Groups left-out items by their reason. */
export const leftOut = (items: ReadonlyArray<readonly [why: Why, example: string]>): ReadonlyArray<LeftOut> => {
  const byReason = new Map<string, { readonly why: Why; readonly all: Array<string> }>()
  for (const [why, example] of items) {
    const known = byReason.get(why.reason)
    if (known === undefined) byReason.set(why.reason, { why, all: [example] })
    else known.all.push(example)
  }
  return Array.from(byReason.values(), ({ all, why }) => ({ ...why, count: all.length, examples: all.slice(0, 3) }))
}
