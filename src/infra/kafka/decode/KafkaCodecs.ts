import type { Transform } from "node:stream"
import * as Zlib from "node:zlib"
import { Corrupt } from "./Corrupt.js"
import * as Lz4 from "./Lz4.js"
import * as Snappy from "./Snappy.js"
import * as Zstd from "./Zstd.js"

/** Bytes in parts of bounded size. Each part is made when it is requested. */
export type Parts = Iterator<Buffer, void> | AsyncIterator<Buffer, void>

/** Bytes of a part of a stream. */
const partBytes = 256 * 1024
/** Input up to this size, with output up to this size, is decompressed without a stream: a stream takes 5 times as long. */
const small = { input: 64 * 1024, output: 256 * 1024, chunk: 16 * 1024 }

/** Whether an error of a decompressor of Node is caused by its input. */
const isOfBytes = (error: unknown): error is Error =>
  error instanceof Error && "code" in error &&
  /^(Z_(DATA|BUF)_ERROR|Z_NEED_DICT|ZSTD_|ERR_TRAILING_JUNK)/.test(String(error.code))

/** An error of a decompressor as `Corrupt`; any other error as it is. */
const asCorrupt = (codec: string) => (error: unknown) =>
  isOfBytes(error) ? new Corrupt({ reason: `${codec}: ${error.message}` }) : error

/** Decoders of `node:zlib`. */
interface InNode {
  readonly stream: (options: { readonly chunkSize: number }) => Transform
  readonly sync: (bytes: Buffer, options: { readonly chunkSize: number; readonly maxOutputLength: number }) => Buffer
}

const gzip: InNode = { stream: Zlib.createGunzip, sync: Zlib.gunzipSync }

/** The whole output when it is small, otherwise undefined. */
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

/** The frames of the input one by one: a stream of Node decodes only the first frame. */
function* framesOf(input: Buffer) {
  for (const { bytes } of Zstd.frames(input)) yield bytes
}

/**
 * Decompresses the records of a batch by the number of Kafka for its codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd. Fails
 * with `Corrupt`. `return` frees the decompressor.
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
        ? Zstd.decode(input)
        : throughNode(Zstd.inNode, framesOf(input), "zstd")
    default:
      throw new Corrupt({ reason: `codec ${codec} is unknown` })
  }
}
