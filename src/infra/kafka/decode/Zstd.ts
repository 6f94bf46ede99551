import { Decompress } from "fzstd"
import type { Transform } from "node:stream"
import * as Zlib from "node:zlib"
import { Corrupt } from "./Corrupt.js"

/** The first bytes of a frame, and of a skippable frame (its last four bits are free). */
const [frameMagic, skippableMagic] = [0xfd2fb528, 0x184d2a50]
/** Largest output of a block. */
const blockBytes = 128 * 1024
/**
 * Largest window without `node:zlib`. RFC 8878 recommends it for every decoder, and levels up to 19 use no more. Each block
 * moves the whole window.
 */
const windowBytes = 8 * 1024 * 1024

const broken = (what: string) => new Corrupt({ reason: `zstd: ${what}` })

interface Options {
  readonly chunkSize: number
  readonly maxOutputLength?: number
}

/** Node has these functions from 22.15 on. The types of Node 20 do not have them. */
const native = Zlib as typeof Zlib & {
  readonly createZstdDecompress?: (options: Options & { readonly params: object }) => Transform
  readonly zstdDecompressSync?: (bytes: Buffer, options: Options & { readonly params: object }) => Buffer
  readonly constants: { readonly ZSTD_d_windowLogMax?: number }
}
const { createZstdDecompress, zstdDecompressSync } = native
/** The largest window of the decoder in Java clients, 128 MiB. */
const params = { [native.constants.ZSTD_d_windowLogMax ?? 0]: 27 }

/** The decoders of Node, if this version has them. */
export const inNode = createZstdDecompress === undefined || zstdDecompressSync === undefined ? undefined : {
  stream: (options: Options) => createZstdDecompress({ ...options, params }),
  sync: (bytes: Buffer, options: Options) => zstdDecompressSync(bytes, { ...options, params })
}

/** A header of a frame with a window of at least so many bytes, and without the size of the content. */
const headerOf = (window: number, hasSum: boolean) => {
  const log = Math.max(10, Math.ceil(Math.log2(window)))
  const header = Buffer.alloc(6)
  header.writeUInt32LE(frameMagic)
  header[4] = hasSum ? 4 : 0
  header[5] = (log - 10) << 3
  return header
}

/** Finds the blocks of a frame in the input. */
const readFrame = (input: Buffer, from: number) => {
  const flags = input[from + 4]!
  const single = (flags & 0x20) !== 0
  const sizeBytes = flags >>> 6 === 0 ? (single ? 1 : 0) : 1 << (flags >>> 6)
  if ((flags & 3) !== 0) throw broken("a dictionary is needed")
  if ((flags & 8) !== 0) throw broken("an unknown kind of frame")
  let i = from + 5
  let window = Infinity
  if (!single) {
    const byte = input[i++]!
    window = 2 ** (10 + (byte >>> 3)) * (1 + (byte & 7) / 8)
  }
  i += sizeBytes
  const begin = i
  /** Upper bound of the output. The window need not be larger. */
  let content = 0
  const blocks: Array<number> = []
  for (;;) {
    if (i + 3 > input.length) throw broken("the frame ends early")
    const word = input.readUIntLE(i, 3)
    const [type, size] = [(word >>> 1) & 3, word >>> 3]
    if (type === 3) throw broken("an unknown kind of block")
    // a block of type 1 repeats one byte
    i += 3 + (type === 1 ? 1 : size)
    if (i > input.length) throw broken("the frame ends early")
    if (size > blockBytes) throw broken("a block beyond its size")
    content += type === 2 ? blockBytes : size
    blocks.push(i)
    if ((word & 1) === 1) break
  }
  const hasSum = (flags & 4) !== 0
  return { begin, blocks, end: i + (hasSum ? 4 : 0), hasSum, window: Math.min(window, Math.max(1024, content)) }
}

/** The frames of an input, with their blocks and windows. */
export function* frames(input: Buffer) {
  let i = 0
  while (i < input.length) {
    if (i + 8 > input.length) throw broken("the frame ends early")
    const magic = input.readUInt32LE(i)
    if (((magic & 0xfffffff0) >>> 0) === skippableMagic) {
      i += 8 + input.readUInt32LE(i + 4)
      continue
    }
    if (magic !== frameMagic) throw broken("this is no frame")
    const frame = readFrame(input, i)
    if (frame.end > input.length) throw broken("the frame ends early")
    yield { ...frame, bytes: input.subarray(i, frame.end) }
    i = frame.end
  }
}

/** Decodes the next bytes. fzstd does not check all bounds: damaged bytes can cause a `RangeError` or a `TypeError`. */
const push = (decoder: Decompress, bytes: Uint8Array, last?: boolean) => {
  try {
    decoder.push(bytes, last)
  } catch (error) {
    throw broken((error as Error).message)
  }
}

/** Decodes frames of zstd without `node:zlib`, a block at a time (at most 128 KiB). Compares no checksums. Follows RFC 8878. */
export function* decode(input: Buffer): Generator<Buffer> {
  for (const { begin, blocks, end, hasSum, window } of frames(input)) {
    if (window > windowBytes) throw broken("the window is too large for this version of Node.js, use 22.15 or later")
    const out: Array<Uint8Array> = []
    const decoder = new Decompress((part) => void out.push(part))
    push(decoder, headerOf(window, hasSum))
    let at = begin
    for (let n = 0; n < blocks.length; n++) {
      const last = n === blocks.length - 1
      push(decoder, input.subarray(at, last ? end : blocks[n]), last)
      at = blocks[n]!
      for (const part of out.splice(0)) {
        if (part.length > 0) yield Buffer.from(part.buffer, part.byteOffset, part.byteLength)
      }
    }
  }
}
