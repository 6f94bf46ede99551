/** Murmur2 as in the Java client of Kafka, written from its definition. */
const murmur2 = (data: Buffer): number => {
  const m = 0x5bd1e995
  let h = 0x9747b28c ^ data.length
  const whole = data.length & ~3
  for (let i = 0; i < whole; i += 4) {
    let k = Math.imul(data.readInt32LE(i), m)
    k = Math.imul(k ^ (k >>> 24), m)
    h = Math.imul(h, m) ^ k
  }
  const rest = data.length - whole
  if (rest > 0) h = Math.imul(h ^ data.readUIntLE(whole, rest), m)
  h = Math.imul(h ^ (h >>> 13), m)
  return h ^ (h >>> 15)
}

/** The partition that the Java client chooses for a key. */
export const partitionOf = (key: Buffer, partitions: number) => (murmur2(key) & 0x7fffffff) % partitions

/** Vectors of the tests of Apache Kafka. */
export const known: ReadonlyArray<readonly [text: string, partitionOfAThousand: number]> = ([
  ["21", -973932308],
  ["foobar", -790332482],
  ["a-little-bit-long-string", -985981536],
  ["a-little-bit-longer-string", -1486304829],
  ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
  ["abc", 479470107]
] as const).map(([text, hash]) => [text, (hash & 0x7fffffff) % 1_000])
