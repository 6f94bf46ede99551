import type { Message, PartitionerArgs } from "kafkajs"
import { Partitioners } from "kafkajs"

/** Multiplier and shift of murmur2. */
const [m, r] = [0x5bd1e995, 24]

/** The hash that Java producers take of a key. */
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

/** Where a key belongs among so many partitions. */
export const partitionOf = (key: Buffer | string, partitions: number) =>
  (murmur2(Buffer.isBuffer(key) ? key : Buffer.from(key)) & 0x7fffffff) % partitions

/** Over how many partitions the keys of some records are spread. A topic may have more. */
export interface Spread {
  readonly partitions: number
}

/**
 * A topic has fewer partitions than the records are spread over. To kafkajs it is a sign that its metadata are old: it asks
 * for new ones, and tries again.
 */
const partitionMissing = (topic: string, wanted: number, there: number) =>
  Object.assign(
    new Error(
      Number.isFinite(wanted)
        ? `topic ${topic} has ${there} partitions, and had ${wanted}`
        : `it is not known yet over how many partitions of topic ${topic} the orders are spread`
    ),
    { name: "KafkaJSMetadataNotLoaded", retriable: true }
  )

/**
 * The partitioner of Java producers, which is the default of kafkajs too: murmur2 of the key. Here without BigInt, with
 * which kafkajs computes it. A record with a `spread` goes by that, and not by the number of partitions there are. Records
 * without a key are left to kafkajs.
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
