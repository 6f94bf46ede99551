import { crc32c } from "../decode/Crc32c.js"
import * as RecordTime from "../RecordTime.js"
import type { Load, Patch } from "./Patch.js"

type Bytes = Buffer | string | null | undefined

interface Message {
  readonly key?: Bytes
  readonly value: Bytes
  readonly timestamp?: string
  readonly headers?: Readonly<Record<string, Bytes | ReadonlyArray<Bytes>>>
}

/** The records for one partition. */
interface PartitionData {
  readonly partition: number
  readonly firstSequence: number
  readonly messages: ReadonlyArray<Message>
}

interface Produce {
  readonly acks: number
  readonly timeout: number
  readonly compression?: number
  readonly transactionalId?: string | null
  /** A 64-bit integer of kafkajs. */
  readonly producerId: { readonly toString: () => string }
  readonly producerEpoch: number
  readonly topicData: ReadonlyArray<{ readonly topic: string; readonly partitions: ReadonlyArray<PartitionData> }>
}

const lengthOf = (value: Bytes) => value == null ? -1 : Buffer.byteLength(value)

const zigZag = (value: number) => (value << 1) ^ (value >> 31)

const sizeOfVarInt = (value: number) => {
  let size = 1
  for (let rest = zigZag(value) >>> 7; rest !== 0; rest >>>= 7) size++
  return size
}

const sizeOfBytes = (value: Bytes) => {
  const length = lengthOf(value)
  return sizeOfVarInt(length) + Math.max(0, length)
}

/** Name, value, name, value, … */
const headersOf = ({ headers = {} }: Message) => {
  const flat: Array<Bytes> = []
  for (const name of Object.keys(headers)) {
    const value = headers[name]
    if (Array.isArray(value)) { for (const each of value as ReadonlyArray<Bytes>) flat.push(name, each) }
    else flat.push(name, value as Bytes)
  }
  return flat
}

/** Bytes of a record without its length: attributes, time (that of the batch), offset in the batch, key, value, headers. */
const sizeOfRecord = ({ key, value }: Message, headers: ReadonlyArray<Bytes>, offset: number) => {
  let size = 2 + sizeOfVarInt(offset) + sizeOfBytes(key) + sizeOfBytes(value) + sizeOfVarInt(headers.length / 2)
  for (const each of headers) size += sizeOfBytes(each)
  return size
}

/** Upper bound for the bytes of a record in a request, with key, value and headers. Its offset in the batch is not known yet. */
export const bytesOf = (record: Message) => {
  const size = sizeOfRecord(record, headersOf(record), 2 ** 30)
  return sizeOfVarInt(size) + size
}

class Writer {
  at = 0
  constructor(readonly bytes: Buffer) {}
  int8 = (value: number) => (this.at = this.bytes.writeInt8(value, this.at))
  int16 = (value: number) => (this.at = this.bytes.writeInt16BE(value, this.at))
  int32 = (value: number) => (this.at = this.bytes.writeInt32BE(value, this.at))
  int64 = (value: bigint) => (this.at = this.bytes.writeBigInt64BE(value, this.at))
  raw(value: Buffer | string) {
    this.at += typeof value === "string" ? this.bytes.write(value, this.at) : value.copy(this.bytes, this.at)
  }
  text(value: string | null) {
    this.int16(lengthOf(value))
    if (value !== null) this.raw(value)
  }
  varInt(value: number) {
    let rest = zigZag(value) >>> 0
    for (; rest > 0x7f; rest >>>= 7) this.bytes[this.at++] = (rest & 0x7f) | 0x80
    this.bytes[this.at++] = rest
  }
  varBytes(value: Bytes) {
    this.varInt(lengthOf(value))
    if (value != null) this.raw(value)
  }
}

/** Bytes of a batch before the end of its length, before the end of its checksum, and before its records. */
const batch = { length: 12, checksum: 21, header: 61 }

/** The number of the partition, the size of the batch, and the records as one batch of format 2. */
const encodePartition = ({ firstSequence, messages, partition }: PartitionData, args: Produce, time: bigint) => {
  const headers = messages.map(headersOf)
  const sizes = messages.map((message, i) => sizeOfRecord(message, headers[i]!, i))
  const size = sizes.reduce((sum, size) => sum + sizeOfVarInt(size) + size, batch.header)
  const writer = new Writer(Buffer.allocUnsafe(8 + size))
  writer.int32(partition)
  writer.int32(size)
  writer.int64(0n)
  writer.int32(size - batch.length)
  writer.int32(0) // epoch of the leader
  writer.int8(2)
  const checksumAt = writer.at
  writer.int32(0)
  writer.int16(args.transactionalId == null ? 0 : 0x10)
  writer.int32(messages.length - 1)
  writer.int64(time)
  writer.int64(time)
  writer.int64(BigInt(String(args.producerId)))
  writer.int16(args.producerEpoch)
  writer.int32(firstSequence)
  writer.int32(messages.length)
  for (let i = 0; i < messages.length; i++) {
    const { key, value } = messages[i]!
    writer.varInt(sizes[i]!)
    writer.int8(0)
    writer.int8(0)
    writer.varInt(i)
    writer.varBytes(key)
    writer.varBytes(value)
    writer.varInt(headers[i]!.length / 2)
    for (const each of headers[i]!) writer.varBytes(each)
  }
  writer.bytes.writeUInt32BE(crc32c(writer.bytes.subarray(checksumAt + 4)), checksumAt)
  return writer.bytes
}

const encode = (args: Produce) => {
  const parts: Array<Buffer> = []
  const part = (size: number, write: (writer: Writer) => void) => {
    const writer = new Writer(Buffer.allocUnsafe(size))
    write(writer)
    parts.push(writer.bytes)
  }
  const { acks, timeout, topicData, transactionalId = null } = args
  part(12 + Math.max(0, lengthOf(transactionalId)), (writer) => {
    writer.text(transactionalId)
    writer.int16(acks)
    writer.int32(timeout)
    writer.int32(topicData.length)
  })
  for (const { partitions, topic } of topicData) {
    part(6 + lengthOf(topic), (writer) => {
      writer.text(topic)
      writer.int32(partitions.length)
    })
    const time = RecordTime.of(topic)
    for (const partition of partitions) parts.push(encodePartition(partition, args, time))
  }
  return Buffer.concat(parts)
}

/**
 * Encodes the records of a request into one buffer a partition. Compressed records, records with a time of their own, and
 * old versions of the request keep the encoder of kafkajs. The time of the records is that of `RecordTime`.
 *
 * Defect: kafkajs makes a buffer of 512 bytes for each record and each header, and computes small integers with BigInt: half
 * of the CPU of sending. It throws on a header whose value is null.
 */
const install = (load: Load) => {
  const Encoder = load("kafkajs/src/protocol/encoder") as new(size: number) => object
  const produce = load("kafkajs/src/protocol/requests/produce") as {
    protocol: (
      _: { readonly version: number }
    ) => (args: Produce) => { readonly request: object; readonly response: object }
  }
  const protocol = produce.protocol
  produce.protocol = (chosen) => (args) => {
    const made = protocol(chosen)(args)
    const plain = chosen.version >= 3 && !args.compression && args.producerId != null &&
      args.topicData.every(({ partitions }) =>
        partitions.every(({ messages }) => messages.every(({ timestamp }) => timestamp === undefined))
      )
    if (!plain) return made
    const encoded = () => {
      const buf = encode(args)
      return Promise.resolve(Object.assign(new Encoder(1), { buf, offset: buf.length }))
    }
    return { ...made, request: { ...made.request, encode: encoded } }
  }
}

export const patch: Patch = { module: "kafkajs/src/protocol/requests/produce", members: { protocol: 1 }, install }
