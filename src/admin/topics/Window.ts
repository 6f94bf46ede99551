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
 * Chooses the matches of an answer, at most `limit` of them and `bytes` bytes: of the next match of each partition always the one
 * whose time comes first, so that no partition is read out of its order. `whole` has the spans of the whole topic. A partition that
 * was not read to the end of its part (`reached`) goes on there; backward it is read again, because its newest records are missing.
 */
export const choose = <A extends Match>(
  parts: ReadonlyArray<Matches<A>>,
  whole: ReadonlyArray<Span>,
  { bytes, forward, limit }: { readonly forward: boolean; readonly limit: number; readonly bytes: number }
): Chosen<A> => {
  const sign = forward ? 1 : -1
  const lanes = parts.map((part) => {
    const isRead = part.reached >= part.span.end
    const matches = !forward && !isRead ? [] : forward ? part.kept : [...part.kept].reverse()
    return { part, isRead, matches, taken: 0 }
  })
  const records: Array<A> = []
  let size = 0
  let full: "limit" | "bytes" | undefined
  while (full === undefined) {
    let first: (typeof lanes)[number] | undefined
    for (const lane of lanes) {
      const [one, other] = [lane.matches[lane.taken], first?.matches[first.taken]]
      if (one !== undefined && (other === undefined || sign * (one.at - other.at) < 0)) first = lane
    }
    if (first === undefined) break
    const match = first.matches[first.taken]!
    if (records.length >= limit) full = "limit"
    else if (records.length > 0 && size + match.bytes > bytes) full = "bytes"
    else {
      first.taken++
      size += match.bytes
      records.push(match)
    }
  }
  const next = new Map<number, number>()
  for (const { isRead, matches, part: { leftOut, reached, span }, taken } of lanes) {
    const cut = matches[taken]?.offset ?? leftOut
    const edge = whole.find(({ partition }) => partition === span.partition)!
    const at = forward
      ? cut ?? (isRead ? span.end : reached)
      : !isRead
      ? span.end
      : cut === undefined
      ? span.start
      : cut + 1
    if (forward ? at < edge.end : at > edge.start) next.set(span.partition, at)
  }
  const limited = full ?? (parts.some(({ leftOut }) => leftOut !== undefined) ? "limit" : undefined)
  const late = lanes.some(({ isRead }) => !isRead)
  return { records, ended: limited ?? (late ? "time" : next.size === 0 ? "end" : "examined"), next }
}
