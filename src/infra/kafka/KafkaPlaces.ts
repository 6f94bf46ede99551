/** What the broker has of a partition. The offsets after the last record: of all, and of those that may be read. */
export interface Ends {
  /** The first offset that is there. */
  readonly low: bigint
  /** Behind it there are open transactions, and what was written after their first record. */
  readonly stable: bigint
  readonly high: bigint
}

/** What the group has committed of a partition, and the note that goes with it. */
export interface Committed {
  readonly offset: bigint
  readonly note: Note
}

/** What is committed with an offset: the topic that it is of, and how many records the group never read. */
export interface Note {
  /** Another one when a topic is deleted and made again. Empty when it is not known. */
  readonly topicId: string
  readonly skipped: bigint
}

/** Why reading does not go on where the group has committed. */
export type Cause = "expired" | "recreated" | "truncated"

/** Records that are gone, and that the group has not read. */
export interface Skip {
  readonly partition: number
  readonly cause: Cause
  /** The offset that was committed, and the one where reading goes on. */
  readonly from: bigint
  readonly to: bigint
  /** How many offsets there were; unknown for a topic that is not there any more. */
  readonly records: bigint | undefined
}

/** Where a partition is read from, and what to say of it. */
export interface Start {
  readonly at: bigint
  /** What the group has now. */
  readonly committed: bigint
  readonly skip: Skip | undefined
}

/** As text, for the broker to keep with the offset. */
export const write = ({ skipped, topicId }: Note) => `topic=${topicId} skipped=${skipped}`

/** Anything else, as other programs and older versions leave it, says nothing. */
export const read = (text: string | null | undefined): Note => {
  const [, topicId = "", skipped = "0"] = /^topic=(\S*) skipped=(\d{1,18})$/.exec(text ?? "") ?? []
  return { topicId, skipped: BigInt(skipped) }
}

/**
 * Where reading begins: at the committed offset if it is one of this topic and its records are there, else at the first
 * record. What was handled before is known, and comes to nothing.
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
