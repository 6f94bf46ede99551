import { Either } from "effect"
import { createHash } from "node:crypto"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import * as InventoryLimits from "../domain/InventoryLimits.js"
import type { OrderId } from "../domain/Payment.js"
import { writable } from "../infra/kafka/KafkaNullHeader.js"
import type { OutgoingRecord } from "../infra/kafka/KafkaProducer.js"
import type { IncomingRecord } from "../infra/kafka/KafkaRecord.js"
import { ownHeaders } from "../inventory/DeadLetter.js"

/** Position of a dead letter on its topic. */
export interface Place {
  readonly partition: number
  readonly offset: string
}

/** A record of the dead-letter topic. */
export interface Letter extends Place {
  /** Milliseconds of the epoch; undefined when the record has no time. */
  readonly at: number | undefined
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: Readonly<Record<string, string>>
  /** Why the service could not handle the record. */
  readonly reason: string
  /** `topic/partition@offset` of the original record. */
  readonly original: string
  /** The missing parts, as header `dlq-cut` names them. */
  readonly cut: ReadonlyArray<string>
  readonly record: IncomingRecord
}

export const show = ({ offset, partition }: Place) => `${partition}@${offset}`

const header = (record: IncomingRecord, name: string): string | undefined => {
  const value = record.headers?.[name]
  return value === undefined ? undefined : (Array.isArray(value) ? value.at(-1) : value)?.toString()
}

/** Reads a record of the dead-letter topic. A record that another program wrote has no reason. */
export const read = (partition: number, record: IncomingRecord): Letter => {
  const of = (name: string) => header(record, name)
  const time = Number(record.timestamp)
  return {
    partition,
    offset: record.offset,
    at: time >= 0 ? time : undefined,
    key: record.key,
    value: record.value,
    headers: Object.fromEntries(Object.keys(record.headers ?? {}).map((name) => [name, of(name) ?? ""])),
    reason: of("dlq-reason") ?? "no reason: another program wrote it",
    original: `${of("dlq-topic") ?? "?"}/${of("dlq-partition") ?? "?"}@${of("dlq-offset") ?? "?"}`,
    cut: [...(of("dlq-cut") ?? "").split(",").filter((part) => part !== ""), ...(record.unread ? ["unread"] : [])],
    record
  }
}

/** What the service would do with a value. */
export type Outcome =
  | { readonly _tag: "Creates"; readonly orderId: OrderId; readonly idempotentKey: string }
  | { readonly _tag: "Ignored"; readonly status: string }
  | { readonly _tag: "Malformed"; readonly reason: string }

/** Judges a value as the consumer does. */
export const outcome = (value: Buffer | null, accepted: ReadonlySet<string>): Outcome => {
  const refusal = InventoryLimits.refusal({ key: null, value })
  if (refusal !== undefined) return { _tag: "Malformed", reason: refusal }
  const decoded = InventoryEvent.decode(value)
  if (Either.isLeft(decoded)) return { _tag: "Malformed", reason: decoded.left.reason }
  const { idempotentKey, orderId, status } = decoded.right
  return accepted.has(status) ? { _tag: "Creates", orderId, idempotentKey } : { _tag: "Ignored", status }
}

/** The `idempotent_key` in a value, also in one that is no inventory event; undefined when there is none. */
export const keyIn = (value: Buffer | null): string | undefined =>
  /"idempotent_key"\s*:\s*"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"/.exec(value?.toString() ?? "")?.[1]
    ?.toLowerCase()

/** Header of a replayed record: the position of its letter. */
export const replayedFrom = "dlq-replayed-from"

/** The record that replays a letter: its key, value and headers, without the headers of the letter. */
export const outgoing = (letter: Letter, value: Buffer | null, dlqTopic: string, topic: string): OutgoingRecord => ({
  topic,
  key: letter.headers["dlq-key"] === "synthetic" ? null : letter.key,
  value,
  headers: {
    ...Object.fromEntries(Object.entries(writable(letter.record.headers)).filter(([name]) => !ownHeaders.has(name))),
    [replayedFrom]: `${dlqTopic}/${show(letter)}`
  }
})

const utf8 = new TextDecoder("utf-8", { fatal: true })
// control characters would change a terminal
const printable = /^[^\u0000-\u0008\u000b-\u001f\u007f-\u009f]*$/

/** The bytes as text; undefined when they are no printable UTF-8. */
export const textOf = (bytes: Buffer): string | undefined => {
  const text = Either.getOrUndefined(Either.try(() => utf8.decode(bytes)))
  return text !== undefined && printable.test(text) ? text : undefined
}

/** Largest value, in bytes, that table `operation` keeps. Of a larger one it keeps size and hash. */
const kept = 4096

/** A value as table `operation` keeps it. */
export const noted = (value: Buffer | null) => {
  if (value === null) return null
  const text = value.length <= kept ? textOf(value) : undefined
  return text ?? { bytes: value.length, sha256: createHash("sha256").update(value).digest("hex") }
}
