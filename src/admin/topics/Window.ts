import type { Span } from "../../infra/kafka/KafkaOffsets.js"

/** Where a search of a topic goes on: an offset for each partition that is not searched to its end. */
export type Cursor = ReadonlyMap<number, number>

/** Parses `partition@offset`, joined by commas. */
export const parse = (text: string): Cursor =>
  new Map(text.split(",").map((place) => {
    const [partition, offset] = place.split("@")
    return [Number(partition), Number(offset)] as const
  }))

/** The text of a cursor; null when there is nothing left. */
export const show = (cursor: Cursor): string | null =>
  cursor.size === 0 ? null : Array.from(cursor, ([partition, offset]) => `${partition}@${offset}`).join(",")

/**
 * The next part of a search: at most `each` records of each partition. Forward it begins at the cursor, backward it ends there.
 * Without a cursor it begins at the start of the spans, or ends at their end.
 */
export const next = (
  spans: ReadonlyArray<Span>,
  cursor: Cursor | undefined,
  forward: boolean,
  each: number
): ReadonlyArray<Span> =>
  spans.flatMap((span) => {
    const at = cursor === undefined ? (forward ? span.start : span.end) : cursor.get(span.partition)
    if (at === undefined) return []
    const [start, end] = forward
      ? [Math.max(at, span.start), Math.min(span.end, Math.max(at, span.start) + each)]
      : [Math.max(span.start, Math.min(at, span.end) - each), Math.min(at, span.end)]
    return start < end ? [{ ...span, start, end }] : []
  })

/** A record that matches, by its place and time. */
export interface Match {
  readonly partition: number
  readonly offset: number
  readonly at: number
  /** Size in the answer. */
  readonly bytes: number
}

/** The matches of one partition: at most `limit` of them, those that come first in the direction of the search. */
export class Matches<A extends Match> {
  readonly kept: Array<A> = []
  /** The match nearest to the cursor that was left out. */
  leftOut: number | undefined
  /** The offset after the last record that was read. */
  reached: number

  constructor(readonly span: Span, readonly forward: boolean, readonly limit: number) {
    this.reached = span.start
  }

  add(match: A) {
    if (!this.forward) {
      this.kept.push(match)
      if (this.kept.length > this.limit) this.leftOut = this.kept.shift()!.offset
    } else if (this.kept.length < this.limit) this.kept.push(match)
    else this.leftOut ??= match.offset
  }
}

/** Which matches an answer has, and where the search goes on. */
export interface Chosen<A> {
  readonly records: ReadonlyArray<A>
  readonly ended: "end" | "limit" | "examined" | "bytes" | "time"
  readonly next: Cursor
}

/**
 * Chooses the matches of an answer by time, at most `limit` of them and `bytes` bytes. `whole` has the spans of the whole topic.
 * A partition that was not read to the end of its part (`reached`) goes on there; backward it is read again, because its newest
 * records are missing.
 */
export const choose = <A extends Match>(
  parts: ReadonlyArray<Matches<A>>,
  whole: ReadonlyArray<Span>,
  { bytes, forward, limit }: { readonly forward: boolean; readonly limit: number; readonly bytes: number }
): Chosen<A> => {
  const sign = forward ? 1 : -1
  const isRead = (part: Matches<A>) => part.reached >= part.span.end
  const usable = parts.filter((part) => forward || isRead(part))
  const sorted = usable.flatMap(({ kept }) => kept)
    .sort((a, b) => sign * (a.at - b.at || a.partition - b.partition || a.offset - b.offset))
  // the order by time never overtakes the order of a partition: its cursor could not go back
  const cutAt = new Map<number, number>()
  const records: Array<A> = []
  let size = 0
  let full: "limit" | "bytes" | undefined
  for (const match of sorted) {
    if (full === undefined && records.length >= limit) full = "limit"
    if (full === undefined && records.length > 0 && size + match.bytes > bytes) full = "bytes"
    if (full !== undefined) {
      const cut = cutAt.get(match.partition)
      cutAt.set(match.partition, cut === undefined ? match.offset : forward ? Math.min(cut, match.offset) : Math.max(cut, match.offset))
      continue
    }
    size += match.bytes
    records.push(match)
  }
  const kept = records.filter(({ offset, partition }) => {
    const cut = cutAt.get(partition)
    return cut === undefined || (forward ? offset < cut : offset > cut)
  })
  const next = new Map<number, number>()
  let late = false
  for (const part of parts) {
    const { leftOut, reached, span } = part
    const { partition } = span
    const cut = cutAt.get(partition) ?? leftOut
    const edge = whole.find((one) => one.partition === partition)!
    if (!isRead(part)) late = true
    const at = forward
      ? cut ?? (isRead(part) ? span.end : reached)
      : !isRead(part)
      ? span.end
      : cut === undefined
      ? span.start
      : cut + 1
    if (forward ? at < edge.end : at > edge.start) next.set(partition, at)
  }
  const limited = full ?? (parts.some(({ leftOut }) => leftOut !== undefined) ? "limit" : undefined)
  return { records: kept, ended: limited ?? (late ? "time" : next.size === 0 ? "end" : "examined"), next }
}
