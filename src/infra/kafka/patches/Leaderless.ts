import type { Load, Patch } from "./Patch.js"

interface Metadata {
  readonly topicMetadata: ReadonlyArray<{
    readonly partitionMetadata: ReadonlyArray<{ readonly partitionErrorCode: number; readonly leader: number }>
  }>
}

interface Protocol {
  readonly response: { readonly parse: (data: Metadata) => Promise<Metadata> }
}

interface Cluster {
  findLeaderForPartitions: (
    this: Cluster,
    topic: string,
    partitions: ReadonlyArray<number | string>
  ) => Readonly<Record<string, ReadonlyArray<number>>>
}

/** The error codes of a partition without a leader, and of one whose leader is not known to this listener. */
const leaderNotAvailable = 5
const leaderless = [leaderNotAvailable, 72]

/** The same metadata without the errors of partitions, for topics that have some partitions with a leader. */
const lenient = (data: Metadata): Metadata => ({
  ...data,
  topicMetadata: data.topicMetadata.map((topic) =>
    topic.partitionMetadata.some(({ leader }) => leader >= 0)
      ? {
        ...topic,
        partitionMetadata: topic.partitionMetadata.map((partition) =>
          leaderless.includes(partition.partitionErrorCode)
            ? { ...partition, partitionErrorCode: 0, leader: -1 }
            : partition
        )
      }
      : topic
  )
})

/**
 * Metadata of a topic is good for the partitions that have a leader. Only a request for another partition fails.
 *
 * Defect: when one partition has no leader, kafkajs refuses all metadata. Consumers and producers of the other partitions fail
 * with the next broker that they lose.
 */
const install = (load: Load) => {
  const metadata = load("kafkajs/src/protocol/requests/metadata") as {
    protocol: (_: { readonly version: number }) => (args: object) => Protocol
  }
  const protocol = metadata.protocol
  metadata.protocol = (chosen) => (args) => {
    const made = protocol(chosen)(args)
    return { ...made, response: { ...made.response, parse: (data) => made.response.parse(lenient(data)) } }
  }

  const { createErrorFromCode } = load("kafkajs/src/protocol/error") as {
    readonly createErrorFromCode: (code: number) => Error
  }
  const { prototype } = load("kafkajs/src/cluster") as { readonly prototype: Cluster }
  const find = prototype.findLeaderForPartitions
  prototype.findLeaderForPartitions = function(topic, partitions) {
    const found = find.call(this, topic, partitions)
    // the callers ask for new metadata, and begin again
    if ("-1" in found) throw createErrorFromCode(leaderNotAvailable)
    return found
  }
}

export const patch: Patch = {
  module: "kafkajs/src/cluster",
  members: { findLeaderForPartitions: 2 },
  install
}
