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

/**
 * The partitioner of Java producers, which is the default of kafkajs too: murmur2 of the key. Here without BigInt, with
 * which kafkajs computes it. Records without a key are left to kafkajs.
 */
export const javaCompatible = () => {
  const keyless = Partitioners.DefaultPartitioner()
  return (args: PartitionerArgs) => {
    const { key } = args.message as Message
    return key == null ? keyless(args) : partitionOf(key, args.partitionMetadata.length)
  }
}
