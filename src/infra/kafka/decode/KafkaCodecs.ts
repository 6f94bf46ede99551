import type { Transform } from "node:stream"
import * as Zlib from "node:zlib"
import { Corrupt } from "./Corrupt.js"
import * as Lz4 from "./Lz4.js"
import * as Snappy from "./Snappy.js"
import * as Zstd from "./Zstd.js"

/** Bytes in parts of bounded size, each made when it is asked for. */
export type Parts = Iterator<Buffer, void> | AsyncIterator<Buffer, void>

/** A stream gives parts of this size. */
const partBytes = 256 * 1024
/** What is no larger, before and after, is decompressed at once: a stream costs 5 times as much. */
const small = { input: 64 * 1024, output: 256 * 1024, chunk: 16 * 1024 }

/** What ends up as an error of a stream or of fzstd: their codes say that the bytes are at fault. */
const isOfBytes = (error: unknown): error is Error =>
  error instanceof Error && "code" in error &&
  (typeof error.code === "number" ||
    /^(Z_(DATA|BUF)_ERROR|Z_NEED_DICT|ZSTD_|ERR_TRAILING_JUNK)/.test(String(error.code)))

/** An error of a decompressor as `Corrupt`; any other error as it is. */
export const asCorrupt = (codec: string) => (error: unknown) =>
  isOfBytes(error) ? new Corrupt({ reason: `${codec}: ${error.message}` }) : error

/** Decoders of `node:zlib`. */
interface InNode {
  readonly stream: (options: { readonly chunkSize: number }) => Transform
  readonly sync: (bytes: Buffer, options: { readonly chunkSize: number; readonly maxOutputLength: number }) => Buffer
}

const gzip: InNode = { stream: Zlib.createGunzip, sync: Zlib.gunzipSync }

/** All of it, if that is not much. */
const atOnce = ({ sync }: InNode, input: Buffer): Buffer | undefined => {
  if (input.length > small.input) return undefined
  try {
    return sync(input, { chunkSize: small.chunk, maxOutputLength: small.output })
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ERR_BUFFER_TOO_LARGE") return undefined
    throw error
  }
}

async function* throughNode(decoder: InNode, inputs: Iterable<Buffer>, codec: string) {
  try {
    for (const input of inputs) {
      const whole = atOnce(decoder, input)
      if (whole !== undefined) {
        yield whole
        continue
      }
      const stream = decoder.stream({ chunkSize: partBytes })
      stream.end(input)
      yield* stream as AsyncIterable<Buffer>
    }
  } catch (error) {
    throw asCorrupt(codec)(error)
  }
}

/** A stream of Node decodes the first frame only. */
function* framesOf(input: Buffer) {
  for (const { bytes } of Zstd.frames(input)) yield bytes
}

function* inProcess(parts: Generator<Buffer>, codec: string): Generator<Buffer, void> {
  try {
    yield* parts
  } catch (error) {
    throw asCorrupt(codec)(error)
  }
}

/**
 * Decompresses the records of a batch by the number of its codec, which are Kafka's: 0 none, 1 gzip, 2 snappy, 3 lz4,
 * 4 zstd. Fails with `Corrupt`. `return` gives back what the decompressor holds.
 */
export const decompress = (codec: number, input: Buffer): Parts => {
  switch (codec) {
    case 0:
      return [input][Symbol.iterator]()
    case 1:
      return throughNode(gzip, [input], "gzip")
    case 2:
      return Snappy.decode(input)
    case 3:
      return Lz4.decode(input)
    case 4:
      return Zstd.inNode === undefined
        ? inProcess(Zstd.decode(input), "zstd")
        : throughNode(Zstd.inNode, framesOf(input), "zstd")
    default:
      throw new Corrupt({ reason: `codec ${codec} is unknown` })
  }
}
