import { Corrupt } from "./Corrupt.js"
import type { Parts } from "./KafkaCodecs.js"
import type { Room } from "./KafkaRoom.js"

/** Bytes of large or skipped records that this process has read. They show that a reader moves on without new records. */
export const passedOver = { bytes: 0 }

const nothing: Buffer = Buffer.alloc(0)

/** Reads fields of bytes that arrive in parts. The unread bytes of a part stay until the next part is requested. */
export class PartsReader {
  bytes: Buffer = nothing
  at = 0
  constructor(private readonly parts: Parts, public room: Room) {}

  /** Unread bytes. */
  get there() {
    return this.bytes.length - this.at
  }

  /** Frees the decompressor. */
  close() {
    void Promise.resolve(this.parts.return?.()).catch(() => {})
  }

  /** Appends the next part to the unread bytes. Returns false at the end. */
  async more(): Promise<boolean> {
    const part = await this.parts.next()
    if (part.done === true) return false
    this.bytes = this.there === 0 ? part.value : Buffer.concat([this.bytes.subarray(this.at), part.value])
    this.at = 0
    if (this.room.isLong()) await this.room.rest()
    return true
  }

  /** Reads parts until so many bytes are in one piece. */
  async gather(length: number) {
    if (this.there >= length) return
    const pieces = [this.bytes.subarray(this.at)]
    let there = this.there
    this.bytes = nothing
    this.at = 0
    while (there < length) {
      if (!await this.more()) throw new Corrupt({ reason: "the records end early" })
      pieces.push(this.bytes)
      there += this.bytes.length
      this.bytes = nothing
    }
    this.bytes = Buffer.concat(pieces)
  }

  byte(end: number): number {
    if (this.at >= end) throw new Corrupt({ reason: "a record ends early" })
    return this.bytes[this.at++]!
  }

  /** A number of up to 32 bits: 7 bits a byte, zigzag encoded. */
  varint(end: number): number {
    let byte = this.byte(end)
    let value = byte & 0x7f
    for (let shift = 7; byte >= 0x80; shift += 7) {
      if (shift > 28) throw new Corrupt({ reason: "a number is too long" })
      byte = this.byte(end)
      value |= (byte & 0x7f) << shift
    }
    return (value >>> 1) ^ -(value & 1)
  }

  /** A number of up to 64 bits. */
  varlong(end: number): number {
    const begin = this.at
    let byte = this.byte(end)
    let value = byte & 0x7f
    for (let shift = 7; byte >= 0x80; shift += 7) {
      if (shift > 21) {
        this.at = begin
        return Number(this.bigVarlong(end))
      }
      byte = this.byte(end)
      value |= (byte & 0x7f) << shift
    }
    return (value >>> 1) ^ -(value & 1)
  }

  private bigVarlong(end: number): bigint {
    let value = 0n
    for (let shift = 0n;; shift += 7n) {
      if (shift > 63n) throw new Corrupt({ reason: "a number is too long" })
      const byte = this.byte(end)
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return (value >> 1n) ^ -(value & 1n)
    }
  }

  /** So many bytes, without a copy. Null for -1. */
  slice(length: number, end: number): Buffer | null {
    if (length === -1) return null
    if (length < -1 || length > end - this.at) throw new Corrupt({ reason: "a field is longer than its record" })
    return this.bytes.subarray(this.at, this.at += length)
  }

  /** So many bytes in pieces, and undefined when the time is up. */
  async *pieces(length: number): AsyncGenerator<Buffer | undefined, void> {
    for (let left = length; left > 0;) {
      if (this.there === 0 && !await this.more()) throw new Corrupt({ reason: "the records end early" })
      const piece = this.bytes.subarray(this.at, this.at + Math.min(left, this.there, 1024 * 1024))
      this.at += piece.length
      left -= piece.length
      passedOver.bytes += piece.length
      yield piece
      if (this.room.isLong()) await this.room.rest()
      if (this.room.isLate()) yield undefined
    }
  }
}
