import { Effect } from "effect"
import type { EachBatchPayload } from "kafkajs"
import type { KafkaUnavailable } from "./KafkaClient.js"
import type { Skip } from "./KafkaPositions.js"
import * as KafkaPositions from "./KafkaPositions.js"
import type { KafkaTopic, Look } from "./KafkaTopic.js"
import type { Cell } from "./KafkaWork.js"
import * as PartitionProgress from "./PartitionProgress.js"

/** The topic at the last request. It may be deleted by now. */
export interface LastSeen {
  readonly topicId: string
  /** Records that were not done, by partition. */
  readonly unread: ReadonlyMap<number, bigint>
}

/** The cells of an assignment with their first positions, and the gaps before them. */
export interface Starts {
  readonly topicId: string
  readonly cells: ReadonlyArray<Cell>
  readonly skips: ReadonlyArray<Skip>
  /** Partitions without a leader: their positions are not known yet. */
  readonly leaderless: ReadonlyArray<number>
}

/** Finds the position at which reading of each partition begins that has a leader. */
export const find = Effect.fnUntraced(function*(
  topic: Pick<KafkaTopic, "committed"> & { readonly look: Effect.Effect<Look, KafkaUnavailable> },
  partitions: ReadonlyArray<number>,
  lastSeen: LastSeen | undefined,
  now: () => number
) {
  const { ends, topicId } = yield* topic.look
  const committed = yield* topic.committed(partitions)
  const skips: Array<Skip> = []
  const cells: Array<Cell> = []
  const leaderless: Array<number> = []
  for (const partition of partitions) {
    const known = committed.get(partition)
    const end = ends.get(partition)
    if (end === undefined) {
      leaderless.push(partition)
      continue
    }
    const { at, committed: from, skip } = KafkaPositions.start(partition, known, end, topicId)
    const records = skip?.records ??
      (lastSeen !== undefined && lastSeen.topicId === known?.note.topicId ? lastSeen.unread.get(partition) : undefined)
    if (skip !== undefined) skips.push({ ...skip, records })
    cells.push({
      partition,
      skipped: (known?.note.skipped ?? 0n) + (skip === undefined ? 0n : records ?? 0n),
      progress: PartitionProgress.assigned<EachBatchPayload>(at, from, now())
    })
  }
  return { topicId, cells, skips, leaderless } satisfies Starts
})
