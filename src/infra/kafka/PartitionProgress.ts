/** A batch of one partition, with offsets of the broker. */
export interface Given<B> {
  /** Offset of the last record. */
  readonly last: bigint
  /** The offset after the batch and the control records behind it. */
  readonly end: bigint
  readonly content: B
}

/**
 * The state of one partition, from its assignment to this consumer until it is taken away.
 *
 * - idle: no batch is in progress, and all records before `done` are done.
 * - busy: the batch `inHand` is in progress. A second batch may wait, so that the handler does not wait for the next fetch.
 * - left: no batch begins any more. The offset `done` may still be committed.
 */
export interface Progress<B> {
  readonly left: boolean
  readonly inHand: Given<B> | undefined
  readonly waiting: Given<B> | undefined
  /** The offset after the last record that is done. It may be committed. */
  readonly done: bigint
  /** The offset that the group has. */
  readonly committed: bigint
  /** When `done` moved last, and when the batch in progress began: milliseconds of the epoch. */
  readonly movedAt: number
  readonly begunAt: number
}

/** The group assigns the partition. Reading begins at `done`, and the group has committed `committed`. */
export const assigned = <B>(done: bigint, committed: bigint, now: number): Progress<B> => ({
  left: false,
  inHand: undefined,
  waiting: undefined,
  done,
  committed,
  movedAt: now,
  begunAt: now
})

/** Whether the partition can take another batch. */
export const hasRoom = <B>({ left, waiting }: Progress<B>) => !left && waiting === undefined

/** Takes a fetched batch, for which there must be room. It begins when no batch is in progress, otherwise it waits. */
export const given = <B>(p: Progress<B>, batch: Given<B>, now: number): Progress<B> =>
  p.inHand === undefined ? { ...p, inHand: batch, begunAt: now } : { ...p, waiting: batch }

/** All offsets before `end` are fetched. Behind the last batch there are only control records and aborted records. */
export const passed = <B>(p: Progress<B>, end: bigint, now: number): Progress<B> => {
  if (p.left) return p
  if (p.waiting !== undefined) return end > p.waiting.end ? { ...p, waiting: { ...p.waiting, end } } : p
  if (p.inHand !== undefined && p.done <= p.inHand.last) {
    return end > p.inHand.end ? { ...p, inHand: { ...p.inHand, end } } : p
  }
  return end > p.done ? { ...p, done: end, movedAt: now } : p
}

/** The records of the batch in progress are done, up to and including `offset`. */
export const resolved = <B>(p: Progress<B>, offset: bigint, now: number): Progress<B> => {
  if (p.inHand === undefined || offset < p.done || offset > p.inHand.last) return p
  return { ...p, done: offset === p.inHand.last ? p.inHand.end : offset + 1n, movedAt: now }
}

/** The group or a stop takes the partition away. The batch in progress may still be resolved. */
export const taken = <B>(p: Progress<B>): Progress<B> => ({ ...p, left: true, waiting: undefined })

/**
 * The work on the batch has ended, and the waiting batch begins. After a failure, or when a record was not resolved, no batch
 * begins any more: the offset would move over records that are not done.
 */
export const ended = <B>(p: Progress<B>, succeeded: boolean, now: number): Progress<B> => {
  const whole = p.inHand === undefined || p.done > p.inHand.last
  const next = succeeded && whole ? p : taken(p)
  return { ...next, inHand: next.waiting, waiting: undefined, begunAt: now }
}

/** The group has committed this offset. */
export const committed = <B>(p: Progress<B>, offset: bigint): Progress<B> => ({ ...p, committed: offset })

/** The offset to commit. Undefined when the group has it already. */
export const uncommitted = <B>({ committed, done }: Progress<B>): bigint | undefined =>
  done === committed ? undefined : done

/** Number of records that are done and not committed. */
export const behind = <B>({ committed, done }: Progress<B>) => done > committed ? done - committed : 0n
