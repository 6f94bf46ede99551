import type { Message, PartitionerArgs } from "kafkajs"
import { Partitioners } from "kafkajs"
import type { OutgoingRecord, Spread } from "./KafkaRecord.js"

export type { Spread } from "./KafkaRecord.js"

/** Multiplier and shift of murmur2. */
const [m, r] = [0x5bd1e995, 24]

/** The hash of a key in Java producers. */
const murmur2 = (data: Buffer) => {
  let h = 0x9747b28c ^ data.length
  let i = 0
  for (; i + 4 <= data.length; i += 4) {
    const k = Math.imul(data.readInt32LE(i), m)
    h = Math.imul(h, m) ^ Math.imul(k ^ (k >>> r), m)
  }
  const rest = data.length - i
  if (rest > 2) h ^= data[i + 2]! << 16
  if (rest > 1) h ^= data[i + 1]! << 8
  if (rest > 0) h = Math.imul(h ^ data[i]!, m)
  h = Math.imul(h ^ (h >>> 13), m)
  return h ^ (h >>> 15)
}

/** The partition of a key in a topic with so many partitions. */
export const partitionOf = (key: Buffer | string, partitions: number) =>
  (murmur2(Buffer.isBuffer(key) ? key : Buffer.from(key)) & 0x7fffffff) % partitions

/** An error after which kafkajs asks for new metadata, and begins again. */
const partitionMissing = (topic: string, wanted: number, there: number) =>
  Object.assign(
    new Error(
      Number.isFinite(wanted)
        ? `topic ${topic} has ${there} partitions, and had ${wanted}`
        : `the number of partitions for the orders of topic ${topic} is not known yet`
    ),
    { name: "KafkaJSMetadataNotLoaded", retriable: true }
  )

/**
 * The partitioner of Java producers, and the default of kafkajs: murmur2 of the key. kafkajs computes it with BigInt, this
 * one without. A record with a `spread` uses that number of partitions instead of the topic's. kafkajs chooses the partition
 * of a record without a key.
 */
export const javaCompatible = () => {
  const keyless = Partitioners.DefaultPartitioner()
  return (args: PartitionerArgs) => {
    const { key, spread } = args.message as Message & { readonly spread?: Spread }
    if (key == null) return keyless(args)
    const there = args.partitionMetadata.length
    if (spread === undefined) return partitionOf(key, there)
    if (spread.partitions > there) throw partitionMissing(args.topic, spread.partitions, there)
    return partitionOf(key, spread.partitions)
  }
}

/** Chooses like `javaCompatible`. A record without a key keeps its partition, so that a repetition goes to the same one. */
export const keeping = () => {
  const chooser = javaCompatible()
  const keyless = new WeakMap<object, number>()
  let partitions = 1
  return {
    choose: (args: PartitionerArgs) => {
      partitions = args.partitionMetadata.length
      if (args.message.key != null) return chooser(args)
      const partition = keyless.get(args.message) ?? chooser(args)
      keyless.set(args.message, partition)
      return partition
    },
    /** The partition that was chosen last for this record. */
    of: (record: OutgoingRecord) =>
      record.key === null ? keyless.get(record)! : partitionOf(record.key, record.spread?.partitions ?? partitions)
  } as const
}
