import type { Letter } from "./Letter.js"

/** When and how often a letter was replayed. */
export interface Replays {
  readonly count: number
  /** Time and author of the last replay; null before the first. */
  readonly last: { readonly at: Date; readonly operator: string } | null
}

/** A letter with its replays. */
export interface Filed {
  readonly letter: Letter
  readonly replays: Replays
}

/** A letter for a program, without its key, value and headers. */
export const documentOf = ({ letter, replays }: Filed) => ({
  partition: letter.partition,
  offset: letter.offset,
  at: letter.at === undefined ? null : new Date(letter.at),
  reason: letter.reason,
  original: letter.original,
  value_bytes: letter.value?.length ?? null,
  cut: letter.cut,
  replays: replays.count,
  replayed_at: replays.last?.at ?? null,
  replayed_by: replays.last?.operator ?? null
})
