import * as KafkaBatches from "../decode/KafkaBatches.js"
import { Room } from "../decode/KafkaRoom.js"
import type { Message } from "../KafkaRecord.js"
import type { Load, Patch } from "./Patch.js"

/** Bytes of records that one answer gives: of all partitions, and the least and the most of each. */
const budget = { all: 32 * 1024 * 1024, least: 1024 * 1024, most: 8 * 1024 * 1024 }
/** Milliseconds of decoding for one answer. Then kafkajs sends a heartbeat, and the next fetch goes on. */
const time = 1_000

interface Fetch {
  readonly topics: ReadonlyArray<{
    readonly topic: string
    readonly partitions: ReadonlyArray<{
      readonly partition: number
      readonly fetchOffset: string | number | { readonly toString: () => string }
    }>
  }>
}

interface Answer {
  readonly responses: ReadonlyArray<{ readonly topicName: string; readonly partitions: ReadonlyArray<Partition> }>
}

interface Partition {
  readonly partition: number
  readonly errorCode: number
  readonly highWatermark: string
  readonly lastStableOffset: string
  readonly abortedTransactions: ReadonlyArray<{ readonly producerId: string; readonly firstOffset: string }>
  readonly messages: ReadonlyArray<Message>
}

interface Protocol {
  readonly request: object
  readonly response: { readonly decode: (bytes: Buffer) => Promise<unknown>; readonly parse: unknown }
}

/** Reads the fields of an answer. */
class Fields {
  private at = 0
  constructor(private readonly bytes: Buffer) {}
  int16() {
    const value = this.bytes.readInt16BE(this.at)
    this.at += 2
    return value
  }
  int32() {
    const value = this.bytes.readInt32BE(this.at)
    this.at += 4
    return value
  }
  int64() {
    const value = this.bytes.readBigInt64BE(this.at)
    this.at += 8
    return String(value)
  }
  raw(length: number) {
    return this.bytes.subarray(this.at, this.at += Math.max(0, length))
  }
  array<A>(item: () => A): Array<A> {
    const items: Array<A> = []
    for (let n = this.int32(); n > 0; n--) items.push(item())
    return items
  }
}

/** The answer to a fetch of versions 4 to 11, before its records are decoded. */
const readAnswer = (bytes: Buffer, version: number) => {
  const fields = new Fields(bytes)
  const throttle = fields.int32()
  const session = version >= 7 ? { errorCode: fields.int16(), sessionId: fields.int32() } : {}
  const responses = fields.array(() => ({
    topicName: fields.raw(fields.int16()).toString(),
    partitions: fields.array(() => ({
      partition: fields.int32(),
      errorCode: fields.int16(),
      highWatermark: fields.int64(),
      lastStableOffset: fields.int64(),
      ...(version >= 5 ? { lastStartOffset: fields.int64() } : {}),
      abortedTransactions: fields.array(() => ({ producerId: fields.int64(), firstOffset: fields.int64() })),
      ...(version >= 11 ? { preferredReadReplica: fields.int32() } : {}),
      records: fields.raw(fields.int32())
    }))
  }))
  // from version 8 on it is for the client to wait
  return version >= 8
    ? { throttleTime: 0, clientSideThrottleTime: throttle, ...session, responses }
    : { throttleTime: throttle, ...session, responses }
}

const decode = async (bytes: Buffer, version: number, { topics }: Fetch): Promise<Answer> => {
  const answer = readAnswer(bytes, version)
  const asked = new Map(
    topics.flatMap(({ partitions, topic }) =>
      partitions.map(({ fetchOffset, partition }) => [`${topic}/${partition}`, Number(String(fetchOffset))] as const)
    )
  )
  const all = answer.responses.flatMap(({ partitions }) => partitions)
  // of an answer with an error in it kafkajs takes nothing else
  let open = all.some(({ errorCode }) => errorCode !== 0) ? 0 : all.filter(({ records }) => records.length > 0).length
  let left = budget.all
  const begun = performance.now()
  const responses: Array<Answer["responses"][number]> = []
  for (const { partitions, topicName } of answer.responses) {
    const decoded: Array<Partition> = []
    for (const { records, ...partition } of partitions) {
      const messages: Array<Message> = []
      if (records.length > 0 && open > 0) {
        const given = Math.min(budget.most, Math.max(budget.least, left / open--))
        const room = new Room(given, time - (performance.now() - begun))
        await KafkaBatches.read(
          {
            topic: topicName,
            partition: partition.partition,
            from: asked.get(`${topicName}/${partition.partition}`) ?? 0,
            end: Number(partition.highWatermark),
            bytes: records
          },
          messages,
          room
        )
        left -= given - room.left
      }
      decoded.push({ ...partition, messages })
    }
    responses.push({ topicName, partitions: decoded })
  }
  return { ...answer, responses }
}

/**
 * Decodes the records of an answer.
 *
 * Defect: kafkajs decodes gzip only, and stops the consumer at any other codec. It copies all headers of a record for each
 * of them: 10,000 headers hold the event loop for minutes. It inflates a batch as a whole, whatever its size, compares no
 * checksum, and stops at a batch that it cannot decode.
 */
const install = (load: Load) => {
  const fetch = load("kafkajs/src/protocol/requests/fetch") as {
    protocol: (_: { readonly version: number }) => (args: Fetch) => Protocol
  }
  const protocol = fetch.protocol
  fetch.protocol = (chosen) => (args) => {
    const made = protocol(chosen)(args)
    return chosen.version < 4
      ? made
      : { ...made, response: { ...made.response, decode: (bytes) => decode(bytes, chosen.version, args) } }
  }
}

export const patch: Patch = { module: "kafkajs/src/protocol/requests/fetch", members: { protocol: 1 }, install }
