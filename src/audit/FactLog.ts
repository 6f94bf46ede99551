const chunkBits = 16
const chunkSize = 1 << chunkBits

/** Numbers of a fact: what they mean depends on its kind. */
export interface Row {
  /** At most 53 bits. */
  readonly key: number
  /** At most 53 bits. */
  readonly place: number
  /** 32 bits. */
  readonly time: number
  /** 32 bits. */
  readonly bits: number
}

const makeChunk = () => ({
  key: new Float64Array(chunkSize),
  place: new Float64Array(chunkSize),
  time: new Uint32Array(chunkSize),
  bits: new Uint32Array(chunkSize),
  next: new Int32Array(chunkSize)
})

/**
 * Facts in the order of their arrival, each chained to the one before it of the same owner. 28 bytes a fact, in
 * chunks of 65,536 outside of the heap: nothing is copied when it grows, and nothing is traced by the collector.
 */
export const make = () => {
  const chunks: Array<ReturnType<typeof makeChunk>> = []
  let heads = new Int32Array(1 << 12).fill(-1)
  let size = 0

  const add = (owner: number, { bits, key, place, time }: Row) => {
    if (size >> chunkBits === chunks.length) chunks.push(makeChunk())
    while (owner >= heads.length) {
      const larger = new Int32Array(heads.length * 2).fill(-1)
      larger.set(heads)
      heads = larger
    }
    const chunk = chunks[size >> chunkBits]!
    const i = size & (chunkSize - 1)
    chunk.key[i] = key
    chunk.place[i] = place
    chunk.time[i] = time
    chunk.bits[i] = bits
    chunk.next[i] = heads[owner]!
    heads[owner] = size++
  }

  /** The facts of an owner, the last first. */
  const of = (owner: number): ReadonlyArray<Row> => {
    const rows: Array<Row> = []
    for (let at = heads[owner] ?? -1; at !== -1;) {
      const chunk = chunks[at >> chunkBits]!
      const i = at & (chunkSize - 1)
      rows.push({ key: chunk.key[i]!, place: chunk.place[i]!, time: chunk.time[i]!, bits: chunk.bits[i]! })
      at = chunk.next[i]!
    }
    return rows
  }

  return { add, of, size: () => size, bytes: () => chunks.length * chunkSize * 28 + heads.byteLength } as const
}
