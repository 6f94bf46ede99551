import { Duration, Effect } from "effect"
import type { Consumer, EachBatchPayload } from "kafkajs"
import * as Signal from "../runtime/Signal.js"
import { attempt } from "./KafkaClient.js"
import * as KafkaPositions from "./KafkaPositions.js"
import type { Assignment } from "./KafkaWork.js"
import * as PartitionProgress from "./PartitionProgress.js"

/**
 * When offsets are committed: as soon as `records` are done since the last commit, or after `pause`. While `limit` records
 * are done and not committed, no batch begins: a crash makes the group read these and the batches in progress again.
 */
export const policy = { records: 1_000n, pause: Duration.millis(700), limit: 10_000n }

export interface CommitOptions {
  readonly topic: string
  readonly consumer: Consumer
  readonly assignment: () => Assignment
  readonly behind: () => bigint
  /** The last batch of kafkajs. A commit through it is for its generation, and does not repeat in another one. */
  readonly newest: () => EachBatchPayload | undefined
}

/** Commits the offsets of the assignment. */
export const make = ({ assignment, behind, consumer, newest, topic }: CommitOptions) => {
  /** Signals that there is something to commit, and that it is as much as `policy.records`. */
  const [begun, enough] = [Signal.make(), Signal.make()]

  /** Commits now. Never fails: the next commit repeats the offsets, or another member reads the records again. */
  const commit = Effect.suspend(() => {
    const { cells, topicId } = assignment()
    const offsets = Array.from(cells.values()).flatMap(({ partition, progress, skipped }) => {
      const offset = PartitionProgress.uncommitted(progress)
      const metadata = KafkaPositions.write({ topicId, skipped })
      return offset === undefined ? [] : [{ partition, offset: String(offset), metadata }]
    })
    if (offsets.length === 0) return Effect.void
    const payload = newest()
    return attempt(() =>
      payload === undefined
        ? consumer.commitOffsets(offsets.map((offset) => ({ topic, ...offset })))
        : payload.commitOffsetsIfNecessary({ topics: [{ topic, partitions: offsets }] })
    ).pipe(
      Effect.map(() => {
        for (const { offset, partition } of offsets) {
          const cell = cells.get(partition)!
          cell.progress = PartitionProgress.committed(cell.progress, BigInt(offset))
        }
      }),
      Effect.catchAll((error) => Effect.map(Effect.logDebug("offsets are not committed yet", error), begun.notify))
    )
  })

  return {
    commit,
    /** Commits when there is something to commit, for ever. */
    run: begun.wait.pipe(
      Effect.zipRight(Effect.raceFirst(Effect.sleep(policy.pause), enough.wait)),
      Effect.zipRight(commit),
      Effect.forever
    ) as Effect.Effect<never>,
    /** Call this when more records are done. */
    due: () => {
      begun.notify()
      if (enough.awaited() && behind() >= policy.records) enough.notify()
    }
  } as const
}
