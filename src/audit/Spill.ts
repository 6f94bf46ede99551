import { FileSystem } from "@effect/platform"
import type { PlatformError } from "@effect/platform/Error"
import { Effect, Schema, Scope } from "effect"

/** A temporary file could not be written or read. */
export class NoRoom extends Schema.TaggedError<NoRoom>()("NoRoom", { cause: Schema.Defect }) {
  override get message() {
    return `the audit cannot store its temporary files (set TMPDIR to a folder with more space): ${
      (this.cause as PlatformError).message
    }`
  }
}

const noRoom = Effect.mapError((cause: PlatformError) => new NoRoom({ cause }))

/** A fact as numbers, whose meaning depends on its kind. */
export interface Row {
  /** 64 bits. */
  readonly order: bigint
  /** At most 53 bits. */
  readonly key: number
  /** At most 53 bits. */
  readonly place: number
  /** 32 bits. */
  readonly time: number
  /** 32 bits. */
  readonly bits: number
}

const rowBytes = 32
/** Size of a block, the unit of writing. */
const blockBytes = 512 * rowBytes

/** Number of buckets. */
export const buckets = 512

const encode = (block: Buffer, at: number, { bits, key, order, place, time }: Row) => {
  block.writeBigInt64LE(order, at)
  block.writeDoubleLE(key, at + 8)
  block.writeDoubleLE(place, at + 16)
  block.writeUInt32LE(time, at + 24)
  block.writeUInt32LE(bits, at + 28)
}

const decode = (block: Buffer, at: number): Row => ({
  order: block.readBigInt64LE(at),
  key: block.readDoubleLE(at + 8),
  place: block.readDoubleLE(at + 16),
  time: block.readUInt32LE(at + 24),
  bits: block.readUInt32LE(at + 28)
})

/**
 * Stores rows by bucket, in the order of their arrival. At most one block of each bucket stays in memory (8 MB in all); full
 * blocks go to files of a temporary folder, which is made when first needed and deleted with the scope.
 */
export const make = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const scope = yield* Effect.scope
  const folder = yield* Effect.cached(
    fs.makeTempDirectoryScoped({ prefix: "payments-audit-" }).pipe(noRoom, Scope.extend(scope))
  )
  const blocks: Array<{ readonly bytes: Buffer; used: number } | undefined> = Array.from({ length: buckets })
  const files = new Set<string>()
  let full: Array<{ readonly name: string; readonly bytes: Buffer }> = []
  let size = 0

  /** Adds a row. Run `write` from time to time, or all full blocks stay in memory. */
  const add = (bucket: number, row: Row) => {
    const block = blocks[bucket] ??= { bytes: Buffer.allocUnsafe(blockBytes), used: 0 }
    encode(block.bytes, block.used, row)
    block.used += rowBytes
    size++
    if (block.used < blockBytes) return
    full.push({ name: String(bucket), bytes: block.bytes })
    blocks[bucket] = undefined
  }

  /** Writes full blocks to their files. */
  const write = Effect.suspend(() => {
    const written = full
    full = []
    return Effect.forEach(written, ({ bytes, name }) =>
      Effect.flatMap(folder, (folder) => {
        files.add(name)
        return noRoom(fs.writeFile(`${folder}/${name}`, bytes, { flag: "a" }))
      }), { discard: true })
  })

  /** Returns the rows of a bucket. */
  const read = Effect.fnUntraced(function*(bucket: number) {
    yield* write
    const name = String(bucket)
    const file = files.has(name) ? [yield* noRoom(fs.readFile(`${yield* folder}/${name}`))] : []
    const block = blocks[bucket]
    const parts = [...file, ...block === undefined ? [] : [block.bytes.subarray(0, block.used)]]
    return parts.flatMap(({ buffer, byteLength, byteOffset }) => {
      const bytes = Buffer.from(buffer, byteOffset, byteLength)
      return Array.from({ length: byteLength / rowBytes }, (_, n) => decode(bytes, n * rowBytes))
    })
  })

  return { add, write, read, size: () => size, bytes: () => size * rowBytes } as const
})
