import { Corrupt } from "./Corrupt.js"

/** The first bytes of a frame, and of a skippable frame (its last four bits are free). */
const [frameMagic, skippableMagic] = [0x184d2204, 0x184d2a50]
/** The largest offset between linked blocks. */
const windowBytes = 64 * 1024
/** Largest block by the code in the descriptor of the frame. */
const blockBytes = new Map([[4, 64 * 1024], [5, 256 * 1024], [6, 1024 * 1024], [7, 4 * 1024 * 1024]])

const broken = (what: string) => new Corrupt({ reason: `lz4: ${what}` })

/** Decodes the block `from` … `end` of `input` into `out` at `at`. Returns its end. The history begins at `first`. */
const decodeBlock = (input: Buffer, from: number, end: number, out: Buffer, at: number, first: number): number => {
  let i = from
  while (i < end) {
    const token = input[i++]!
    let literals = token >>> 4
    if (literals === 15) {
      let more: number
      do {
        if (i >= end) throw broken("a length ends early")
        more = input[i++]!
        literals += more
      } while (more === 255)
    }
    if (i + literals > end || at + literals > out.length) throw broken("literals beyond the block")
    if (literals > 32) {
      input.copy(out, at, i, i + literals)
      at += literals
      i += literals
    } else for (let n = literals; n > 0; n--) out[at++] = input[i++]!
    // the last sequence has literals only
    if (i === end) return at
    if (i + 2 > end) throw broken("an offset ends early")
    const offset = input[i]! | (input[i + 1]! << 8)
    i += 2
    let length = (token & 15) + 4
    if ((token & 15) === 15) {
      let more: number
      do {
        if (i >= end) throw broken("a length ends early")
        more = input[i++]!
        length += more
      } while (more === 255)
    }
    if (offset === 0 || at - offset < first) throw broken("an offset before the beginning")
    if (at + length > out.length) throw broken("a match beyond the block")
    at = copyMatch(out, at, offset, length)
  }
  return at
}

/** Copies `length` bytes from `offset` before `at` to `at`. The ranges may overlap. Returns the end. */
export const copyMatch = (out: Buffer, at: number, offset: number, length: number): number => {
  let from = at - offset
  if (length > 32) {
    // the copied range doubles with each step while it overlaps
    const end = at + length
    while (at < end) {
      const step = Math.min(at - from, end - at)
      out.copyWithin(at, from, from + step)
      at += step
    }
    return at
  }
  for (let n = length; n > 0; n--) out[at++] = out[from++]!
  return at
}

/**
 * Decodes frames of LZ4, a block at a time (at most 4 MiB). Compares no checksums: Kafka has a checksum of the whole batch,
 * and old clients wrote a wrong checksum of the frame header.
 * Follows the LZ4 frame format, version 1.6.
 */
export function* decode(input: Buffer): Generator<Buffer> {
  let i = 0
  const need = (bytes: number) => {
    if (i + bytes > input.length) throw broken("the frame ends early")
  }
  while (i < input.length) {
    need(7)
    const magic = input.readUInt32LE(i)
    if ((magic & 0xfffffff0) === skippableMagic) {
      i += 8
      if (i > input.length) throw broken("the frame ends early")
      const size = input.readUInt32LE(i - 4)
      need(size)
      i += size
      continue
    }
    if (magic !== frameMagic) throw broken("this is no frame")
    const [flags, descriptor] = [input[i + 4]!, input[i + 5]!]
    if (flags >>> 6 !== 1) throw broken("an unknown version of the frame")
    const [linked, blockSums, hasSize, sum, hasDictionary] = [
      (flags & 0x20) === 0,
      (flags & 0x10) !== 0,
      (flags & 8) !== 0,
      (flags & 4) !== 0,
      (flags & 1) !== 0
    ]
    if (hasDictionary) throw broken("a dictionary is needed")
    const largest = blockBytes.get((descriptor >>> 4) & 7)
    if (largest === undefined) throw broken("an unknown size of blocks")
    i += 6 + (hasSize ? 8 : 0) + 1
    /** The last decoded bytes. Linked blocks refer to them. */
    let history: Buffer = Buffer.alloc(0)
    for (;;) {
      need(4)
      const word = input.readUInt32LE(i)
      i += 4
      if (word === 0) break
      const size = word & 0x7fffffff
      need(size + (blockSums ? 4 : 0))
      const plain = word >>> 31 === 1
      if (size > largest) throw broken("a block beyond its size")
      const out = Buffer.allocUnsafe(history.length + (plain ? size : largest))
      history.copy(out)
      const end = plain
        ? history.length + input.copy(out, history.length, i, i + size)
        : decodeBlock(input, i, i + size, out, history.length, 0)
      i += size + (blockSums ? 4 : 0)
      const block = out.subarray(history.length, end)
      if (linked) history = Buffer.from(out.subarray(Math.max(0, end - windowBytes), end))
      // a small block must not keep the memory of a large one
      if (block.length > 0) yield block.length * 2 < out.length ? Buffer.from(block) : block
    }
    i += sum ? 4 : 0
  }
}
