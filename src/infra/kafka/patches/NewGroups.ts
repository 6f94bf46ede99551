import type { Load, Patch } from "./Patch.js"

type MemberAssignment = Readonly<Record<string, ReadonlyArray<number>>>

/** The offsets of one member of a group, from one join to the next. */
interface OffsetManager {
  readonly cluster: {
    readonly findTopicPartitionMetadata: (
      topic: string
    ) => ReadonlyArray<{ readonly partitionId: number; readonly leader: number }>
  }
  readonly memberAssignment: MemberAssignment
  resolveOffsets: (this: OffsetManager) => Promise<void>
}

/** The partitions that have a leader, as far as the client knows. */
const led = ({ cluster, memberAssignment }: OffsetManager): MemberAssignment =>
  Object.fromEntries(
    Object.entries(memberAssignment).map(([topic, partitions]) => {
      const without = cluster.findTopicPartitionMetadata(topic).filter(({ leader }) => leader < 0)
        .map(({ partitionId }) => partitionId)
      return [topic, partitions.filter((partition) => !without.includes(partition))]
    })
  )

/**
 * A member finds the first offsets of the partitions that have a leader, and reads these. The first fetch after another one has
 * got a leader finds its offset.
 *
 * Defect: before the first fetch of a member kafkajs asks the leaders of all partitions without a committed offset. When one of
 * them has no leader, it reads none, and joins the group again, for ever.
 */
const install = (load: Load) => {
  const { prototype } = load("kafkajs/src/consumer/offsetManager") as { readonly prototype: OffsetManager }
  const resolveOffsets = prototype.resolveOffsets
  prototype.resolveOffsets = function() {
    return resolveOffsets.call(Object.create(this, { memberAssignment: { value: led(this) } }) as OffsetManager)
  }
}

export const patch: Patch = {
  module: "kafkajs/src/consumer/offsetManager",
  members: { resolveOffsets: 0 },
  install
}
