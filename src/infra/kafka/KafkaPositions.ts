/** The offsets of a partition on the broker. */
export interface Ends {
  /** The first offset. */
  readonly low: bigint
  /** The end of the readable records: the first offset of an open transaction, or `high`. */
  readonly stable: bigint
  /** The end of all records. */
  readonly high: bigint
}

/** The committed offset of a partition, and its metadata. */
export interface Committed {
  readonly offset: bigint
  readonly note: Note
}

/** Metadata of a committed offset: the id of the topic, and the number of records that the group never read. */
export interface Note {
  /** A deleted and recreated topic has another id. Empty when unknown. */
  readonly topicId: string
  readonly skipped: bigint
}

/** Why reading cannot go on at the committed offset. */
export type Cause = "expired" | "recreated" | "truncated"

/** A gap: records that are deleted, and that the group has not read. */
export interface Skip {
  readonly partition: number
  readonly cause: Cause
  /** The committed offset, and the offset at which reading goes on. */
  readonly from: bigint
  readonly to: bigint
  /** Number of offsets in the gap. Undefined for a topic that was deleted. */
  readonly records: bigint | undefined
}

/** The position at which reading of a partition begins, and the gap before it. */
export interface Start {
  readonly at: bigint
  /** The committed offset of the group. */
  readonly committed: bigint
  readonly skip: Skip | undefined
}

/** Encodes metadata as text. */
export const write = ({ skipped, topicId }: Note) => `topic=${topicId} skipped=${skipped}`

/** Decodes metadata. Text of other programs and of older versions counts as empty metadata. */
export const read = (text: string | null | undefined): Note => {
  const [, topicId = "", skipped = "0"] = /^topic=(\S*) skipped=(\d{1,18})$/.exec(text ?? "") ?? []
  return { topicId, skipped: BigInt(skipped) }
}

/**
 * Reading begins at the committed offset when the topic has it, otherwise at the first record of the topic. Records that the
 * group handles again are repeats, and change nothing.
 */
export const start = (partition: number, committed: Committed | undefined, ends: Ends, topicId: string): Start => {
  if (committed === undefined) return { at: ends.low, committed: ends.low, skip: undefined }
  const from = committed.offset
  const because = (cause: Cause, records: bigint | undefined): Start => ({
    at: ends.low,
    committed: from,
    skip: { partition, cause, from, to: ends.low, records }
  })
  const { topicId: before } = committed.note
  if (before !== "" && topicId !== "" && before !== topicId) return because("recreated", undefined)
  if (from > ends.high) return because("truncated", undefined)
  if (from < ends.low) return because("expired", ends.low - from)
  return { at: from, committed: from, skip: undefined }
}
