import { Duration, Effect } from "effect"
import type { Consumer, EachBatchPayload } from "kafkajs"
import * as Signal from "../runtime/Signal.js"
import { attempt } from "./KafkaClient.js"
import * as KafkaPlaces from "./KafkaPlaces.js"
import type { Assignment } from "./KafkaWork.js"
import * as PartitionProgress from "./PartitionProgress.js"

/**
 * A commit is a request to the coordinator, which there would be for each batch. Offsets are committed when so many
 * records are done with, or after a pause. While more than `limit` are done with and not committed, no batch is begun:
 * these, and what is in hand, are read again after a crash.
 */
export const policy = { records: 1_000n, pause: Duration.millis(700), limit: 10_000n }

export interface CommitOptions {
  readonly topic: string
  readonly consumer: Consumer
  readonly assignment: () => Assignment
  readonly behind: () => bigint
  /** The last batch that kafkajs gave: a commit by way of it is one of its generation, and is not repeated in another. */
  readonly newest: () => EachBatchPayload | undefined
}

/** Commits what is done with, for the life of the scope. */
export const make = ({ assignment, behind, consumer, newest, topic }: CommitOptions) =>
  Effect.gen(function*() {
    /** Notified when there is something to commit, and when there is much of it. */
    const [begun, enough] = [Signal.make(), Signal.make()]

    /** Commits now. Never fails: the next commit has the same offsets, or whoever reads the records again. */
    const commit = Effect.suspend(() => {
      const { cells, topicId } = assignment()
      const offsets = Array.from(cells.values()).flatMap(({ partition, progress, skipped }) => {
        const offset = PartitionProgress.uncommitted(progress)
        const metadata = KafkaPlaces.write({ topicId, skipped })
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
    yield* begun.wait.pipe(
      Effect.zipRight(Effect.raceFirst(Effect.sleep(policy.pause), enough.wait)),
      Effect.zipRight(commit),
      Effect.forever,
      Effect.forkScoped
    )

    return {
      commit,
      /** More is done with. */
      due: () => {
        begun.notify()
        if (enough.awaited() && behind() >= policy.records) enough.notify()
      }
    } as const
  })
