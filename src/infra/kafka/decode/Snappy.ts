import { Corrupt } from "./Corrupt.js"
import { copyMatch } from "./Lz4.js"

/** The first bytes of snappy-java, the library of Java clients. Two versions of 4 bytes and the blocks follow. */
const xerialMagic = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00])
const xerialHeader = 16
/** Bytes of a part of a large block. */
const stepBytes = 1024 * 1024
/** The largest offset in a large block. Encoders use at most 64 KiB. */
const windowBytes = 1024 * 1024
/** Bytes of output for a byte of input at most: a copy of 64 bytes takes 3 bytes. */
const largestRatio = 22

const broken = (what: string) => new Corrupt({ reason: `snappy: ${what}` })

/** Decodes the raw block `from` … `end` of `input`, a part at a time. */
function* decodeBlock(input: Buffer, from: number, end: number): Generator<Buffer> {
  let i = from
  let total = 0
  for (let shift = 0;; shift += 7) {
    if (i >= end || shift > 28) throw broken("the size ends early")
    const byte = input[i++]!
    total += (byte & 0x7f) * 2 ** shift
    if (byte < 0x80) break
  }
  if (total > (end - i) * largestRatio) throw broken("the size is more than the block can hold")
  const whole = total <= windowBytes + stepBytes
  const out = Buffer.allocUnsafe(whole ? total : windowBytes + stepBytes)
  /** Position of the next byte, end of the bytes that were given out, and number of bytes that left the window. */
  let [at, given, done] = [0, 0, 0]
  while (i < end) {
    const tag = input[i++]!
    let length = (tag >>> 2) + 1
    let offset = 0
    if ((tag & 3) === 0) {
      if (length > 60) {
        const bytes = length - 60
        if (i + bytes > end) throw broken("a length ends early")
        length = input.readUIntLE(i, bytes) + 1
        i += bytes
      }
      if (i + length > end) throw broken("literals beyond the block")
    } else {
      const bytes = (tag & 3) === 3 ? 4 : tag & 3
      if (i + bytes > end) throw broken("an offset ends early")
      if (bytes === 1) {
        length = ((tag >>> 2) & 7) + 4
        offset = ((tag >>> 5) << 8) | input[i]!
      } else offset = bytes === 2 ? input[i]! | (input[i + 1]! << 8) : input.readUInt32LE(i)
      i += bytes
      if (offset === 0) throw broken("an offset of 0")
    }
    if (done + at - given + length > total) throw broken("more bytes than its size")
    // a literal may be longer than the buffer
    for (;;) {
      if (offset > at) throw broken("an offset before the beginning")
      const part = Math.min(length, out.length - at)
      if (offset > 0) at = copyMatch(out, at, offset, part)
      else if (part <= 16) { for (let n = part; n > 0; n--) out[at++] = input[i++]! }
      else {
        input.copy(out, at, i, i + part)
        at += part
        i += part
      }
      length -= part
      if (length === 0) break
      yield Buffer.from(out.subarray(given, at))
      done += at - given
      out.copyWithin(0, at - windowBytes, at)
      at = given = windowBytes
    }
  }
  if (done + at - given !== total) throw broken("fewer bytes than its size")
  if (at > given) yield whole ? out : Buffer.from(out.subarray(given, at))
}

/**
 * Decodes the Snappy of Kafka clients: blocks in the frame of snappy-java, or one raw block of librdkafka. Gives parts of at
 * most 2 MiB.
 */
export function* decode(input: Buffer): Generator<Buffer> {
  if (!input.subarray(0, xerialMagic.length).equals(xerialMagic)) return yield* decodeBlock(input, 0, input.length)
  let i = xerialHeader
  if (input.length < i) throw broken("the frame ends early")
  while (i < input.length) {
    // several streams of snappy-java may follow each other
    if (input.subarray(i, i + xerialMagic.length).equals(xerialMagic)) {
      i += xerialHeader
      continue
    }
    if (i + 4 > input.length) throw broken("the frame ends early")
    const size = input.readUInt32BE(i)
    i += 4
    if (i + size > input.length) throw broken("the frame ends early")
    yield* decodeBlock(input, i, i + size)
    i += size
  }
}
