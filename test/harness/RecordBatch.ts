import { Effect } from "effect"
import { createRequire } from "node:module"
import * as Net from "node:net"

const crc32c = createRequire(import.meta.url)("kafkajs/src/protocol/recordBatch/crc32C") as (bytes: Buffer) => number

export interface Written {
  readonly key?: Buffer | null
  readonly value: Buffer | null
  readonly headers?: ReadonlyArray<readonly [name: string, value: Buffer | null]>
  /** Offset in the batch; by default its index. */
  readonly delta?: number
}

export const varint = (value: number): Buffer => {
  const bytes: Array<number> = []
  let rest = ((value << 1) ^ (value >> 31)) >>> 0
  for (; rest > 0x7f; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Buffer.from([...bytes, rest])
}
const bytes = (value: Buffer | null) => value === null ? varint(-1) : Buffer.concat([varint(value.length), value])

/** The records of a batch, encoded, before compression. */
export const records = (written: ReadonlyArray<Written>): Buffer =>
  Buffer.concat(written.flatMap(({ delta, headers = [], key = null, value }, i) => {
    const body = Buffer.concat([
      Buffer.from([0, 0]),
      varint(delta ?? i),
      bytes(key),
      bytes(value),
      varint(headers.length),
      ...headers.flatMap(([name, value]) => [bytes(Buffer.from(name)), bytes(value)])
    ])
    return [varint(body.length), body]
  }))

/** Recomputes the checksum of a batch. */
export const sign = (batch: Buffer): Buffer => {
  batch.writeUInt32BE(crc32c(batch.subarray(21)), 17)
  return batch
}

export interface Head {
  readonly count: number
  /** 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd. */
  readonly codec?: number
  readonly firstOffset?: number
  readonly lastOffsetDelta?: number
}

/** A batch of format 2 with this body: its records, compressed by the codec. */
export const batch = (
  body: Buffer,
  { codec = 0, count, firstOffset = 0, lastOffsetDelta = count - 1 }: Head
): Buffer => {
  const head = Buffer.alloc(61)
  head.writeBigInt64BE(BigInt(firstOffset))
  head.writeInt32BE(49 + body.length, 8)
  head[16] = 2
  head.writeInt16BE(codec, 21)
  head.writeInt32BE(lastOffsetDelta, 23)
  head.writeBigInt64BE(1_700_000_000_000n, 27)
  head.writeBigInt64BE(1_700_000_000_000n, 35)
  head.writeBigInt64BE(-1n, 43)
  head.writeInt16BE(-1, 51)
  head.writeInt32BE(-1, 53)
  head.writeInt32BE(count, 57)
  return sign(Buffer.concat([head, body]))
}

/** A zstd frame of blocks that are stored bytes or one repeated byte. */
export const zstd = (...parts: ReadonlyArray<Buffer | { readonly byte: number; readonly times: number }>): Buffer => {
  const most = 128 * 1024
  const blocks: Array<readonly [type: number, size: number, bytes: Buffer]> = []
  for (const part of parts) {
    if (Buffer.isBuffer(part)) {
      for (let at = 0; at < part.length; at += most) {
        const bytes = part.subarray(at, at + most)
        blocks.push([0, bytes.length, bytes])
      }
    } else {
      for (let left = part.times; left > 0; left -= most) blocks.push([1, Math.min(left, most), Buffer.of(part.byte)])
    }
  }
  return Buffer.concat([
    // a window of 2 MiB
    Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0, 0x58]),
    ...blocks.flatMap(([type, size, bytes], i) => {
      const word = Buffer.alloc(3)
      word.writeUIntLE((size << 3) | (type << 1) | (i === blocks.length - 1 ? 1 : 0), 0, 3)
      return [word, bytes]
    })
  ])
}

const text = (value: string) => {
  const size = Buffer.alloc(2)
  size.writeInt16BE(value.length)
  return Buffer.concat([size, Buffer.from(value)])
}
const ints = (...values: ReadonlyArray<number>) => {
  const buffer = Buffer.alloc(values.length * 4)
  values.forEach((value, i) => buffer.writeInt32BE(value, i * 4))
  return buffer
}

/** Writes raw batches to a partition, as any client may send them. Returns the broker's error code. */
export const produce = (broker: string, topic: string, partition: number, batch: Buffer) =>
  Effect.async<number>((resume) => {
    const [host, port] = broker.split(":")
    const body = Buffer.concat([
      // produce, version 7, the first that takes zstd; then: no transaction, all replicas, 30 s
      Buffer.from([0, 0, 0, 7]),
      ints(1),
      text("raw"),
      Buffer.from([0xff, 0xff, 0xff, 0xff]),
      ints(30_000, 1),
      text(topic),
      ints(1, partition, batch.length),
      batch
    ])
    const socket = Net.connect(Number(port), host)
    let answer = Buffer.alloc(0)
    socket.on("error", (error) => resume(Effect.die(error)))
    socket.on("data", (data) => {
      answer = Buffer.concat([answer, data])
      if (answer.length < 4 || answer.length < 4 + answer.readInt32BE(0)) return
      socket.destroy()
      // size, correlation, topics, name, partitions, partition, error
      resume(Effect.succeed(answer.readInt16BE(4 + 4 + 4 + 2 + topic.length + 4 + 4)))
    })
    socket.write(Buffer.concat([ints(body.length), body]))
    return Effect.sync(() => socket.destroy())
  })
