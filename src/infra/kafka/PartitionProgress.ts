/** A batch of one partition. Offsets are those of the broker. */
export interface Given<B> {
  /** Offset of the last record. */
  readonly last: bigint
  /** The offset after the batch, with the control records behind its last record. */
  readonly end: bigint
  readonly content: B
}

/**
 * What is known of one partition, from the moment the group gives it to this consumer until it goes.
 *
 * - idle: nothing is in hand, and everything before `done` is done with.
 * - busy: a batch is in hand. A second one may wait, so that the next fetch is not waited for.
 * - left: nothing is begun any more. What is done with may still be committed.
 */
export interface Progress<B> {
  readonly left: boolean
  readonly inHand: Given<B> | undefined
  readonly waiting: Given<B> | undefined
  /** The offset after the last record that is done with: what may be committed. */
  readonly done: bigint
  /** What the group has of it. */
  readonly committed: bigint
  /** When `done` moved last, and when the batch in hand was begun: milliseconds of the epoch. */
  readonly movedAt: number
  readonly begunAt: number
}

/** The group gives the partition. Reading begins at `done`; the group has `committed`. */
export const assigned = <B>(done: bigint, committed: bigint, now: number): Progress<B> => ({
  left: false,
  inHand: undefined,
  waiting: undefined,
  done,
  committed,
  movedAt: now,
  begunAt: now
})

/** Whether a further batch is taken. */
export const hasRoom = <B>({ left, waiting }: Progress<B>) => !left && waiting === undefined

/** A batch was fetched. It is begun if nothing is in hand, else it waits. Only where there is room. */
export const given = <B>(p: Progress<B>, batch: Given<B>, now: number): Progress<B> =>
  p.inHand === undefined ? { ...p, inHand: batch, begunAt: now } : { ...p, waiting: batch }

/** All before `end` was fetched, and behind the last batch there are only control records or aborted ones. */
export const passed = <B>(p: Progress<B>, end: bigint, now: number): Progress<B> => {
  if (p.left) return p
  if (p.waiting !== undefined) return end > p.waiting.end ? { ...p, waiting: { ...p.waiting, end } } : p
  if (p.inHand !== undefined && p.done <= p.inHand.last) {
    return end > p.inHand.end ? { ...p, inHand: { ...p.inHand, end } } : p
  }
  return end > p.done ? { ...p, done: end, movedAt: now } : p
}

/** The records of the batch in hand are done with, up to and with `offset`. */
export const resolved = <B>(p: Progress<B>, offset: bigint, now: number): Progress<B> => {
  if (p.inHand === undefined || offset < p.done || offset > p.inHand.last) return p
  return { ...p, done: offset === p.inHand.last ? p.inHand.end : offset + 1n, movedAt: now }
}

/** The group, or whoever stops the consumer, takes the partition away. The batch in hand may still be resolved. */
export const taken = <B>(p: Progress<B>): Progress<B> => ({ ...p, left: true, waiting: undefined })

/**
 * The work on the batch in hand has ended, and the next one is begun: it is in hand then. After a failure, or when a
 * record was not resolved, nothing is begun any more: the offset would move over what is not done with.
 */
export const ended = <B>(p: Progress<B>, succeeded: boolean, now: number): Progress<B> => {
  const whole = p.inHand === undefined || p.done > p.inHand.last
  const next = succeeded && whole ? p : taken(p)
  return { ...next, inHand: next.waiting, waiting: undefined, begunAt: now }
}

/** The group has taken this offset. */
export const committed = <B>(p: Progress<B>, offset: bigint): Progress<B> => ({ ...p, committed: offset })

/** What is to be committed: nothing while the group has what is done. */
export const uncommitted = <B>({ committed, done }: Progress<B>): bigint | undefined =>
  done === committed ? undefined : done

/** How many records are done with and not committed. */
export const behind = <B>({ committed, done }: Progress<B>) => done > committed ? done - committed : 0n
