/**
 * Numbers orders from 0 on, in the order of their first mention: open addressing over typed arrays, outside of the
 * heap. 8 bytes an order and 4 to 8 of table; both double when they are full.
 */
export const make = () => {
  let ids = new BigInt64Array(1 << 12)
  let table = new Int32Array(1 << 13).fill(-1)
  let size = 0
  const scratch = new BigInt64Array(1)
  const halves = new Uint32Array(scratch.buffer)

  const start = (id: bigint) => {
    scratch[0] = id
    let hash = Math.imul(halves[0]!, 0x9e3779b1) ^ Math.imul(halves[1]!, 0x85ebca77)
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
    return (hash ^ (hash >>> 13)) & (table.length - 1)
  }

  /** The cell of the table that has the order, or is free for it. */
  const cell = (id: bigint) => {
    let at = start(id)
    while (table[at] !== -1 && ids[table[at]!] !== id) at = (at + 1) & (table.length - 1)
    return at
  }

  const grow = () => {
    const larger = new BigInt64Array(ids.length * 2)
    larger.set(ids)
    ids = larger
    table = new Int32Array(table.length * 2).fill(-1)
    for (let n = 0; n < size; n++) table[cell(ids[n]!)] = n
  }

  /** The number of an order; a new one when it has none. */
  const numberOf = (id: bigint): number => {
    const found = table[cell(id)]!
    if (found !== -1) return found
    if (size === ids.length) grow()
    ids[size] = id
    table[cell(id)] = size
    return size++
  }

  return {
    numberOf,
    has: (id: bigint) => table[cell(id)] !== -1,
    id: (n: number) => ids[n]!,
    size: () => size,
    bytes: () => ids.byteLength + table.byteLength
  } as const
}
