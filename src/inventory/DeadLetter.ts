import { createHash } from "node:crypto"
import { writable } from "../infra/kafka/KafkaNullHeader.js"
import type { OutgoingRecord } from "../infra/kafka/KafkaProducer.js"
import { bytesOf } from "../infra/kafka/KafkaProducer.js"
import type { IncomingHeaders, Unread } from "../infra/kafka/KafkaRecord.js"

/** An inventory record that cannot be handled: its content, its position and the reason. */
export interface DeadLetter {
  readonly key: Buffer | null
  readonly value: Buffer | null
  readonly headers: IncomingHeaders | undefined
  readonly topic: string
  readonly partition: number
  readonly offset: string
  readonly reason: string
  /** Size and hash of a record that was too large to keep when it was read. */
  readonly unread?: Unread | undefined
}

/** Which parts of the record a dead letter leaves out or replaces because the topic refused them. */
interface Form {
  readonly withoutHeaders: boolean
  /** Number of leading bytes of the value that are kept. */
  readonly valueBytes: number
  readonly withoutLongKey: boolean
  /** A record without a key gets its position as key. */
  readonly keyed: boolean
}

/** A dead letter, and the record to write for it in its present form. */
export interface Draft {
  readonly letter: DeadLetter
  readonly form: Form
  readonly record: OutgoingRecord
  /** Size of the record in a request. */
  readonly bytes: number
}

/** Header names of dead letters. If a record has them already, it is a dead letter that was sent back: they are replaced. */
export const ownHeaders: ReadonlySet<string> = new Set([
  "dlq-reason",
  "dlq-topic",
  "dlq-partition",
  "dlq-offset",
  "dlq-key",
  "dlq-cut",
  "dlq-refusal",
  "dlq-headers",
  "dlq-value-bytes",
  "dlq-value-sha256",
  "dlq-key-bytes",
  "dlq-key-sha256",
  "dlq-unread-bytes",
  "dlq-unread-sha256"
])

/** Lengths to which a value is cut, in bytes: the first that the topic accepts is used. */
const beginnings = [64 * 1024, 1024]
/** A key up to this length, in bytes, is part of every letter. */
const shortKey = 1024
/** Headers up to this size, in bytes, are not why a record is too large. */
const fewHeaders = 1024
/**
 * Largest record, in bytes, that is sent whole. A broker closes the connection on a request above `socket.request.max.bytes`
 * (100 MiB by default) without an error code.
 */
const largest = 32 * 1024 * 1024

const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")

const whole: Form = { withoutHeaders: false, valueBytes: Infinity, withoutLongKey: false, keyed: false }

const headersOf = ({ headers }: DeadLetter) =>
  Object.fromEntries(Object.entries(writable(headers)).filter(([name]) => !ownHeaders.has(name)))

const countOf = (headers: OutgoingRecord["headers"]) =>
  Object.values(headers ?? {}).reduce((sum, value) => sum + (Array.isArray(value) ? value.length : 1), 0)

const draft = (letter: DeadLetter, dlqTopic: string, form: Form, refusal?: string): Draft => {
  const { key, offset, partition, reason, topic, unread, value } = letter
  const headers = headersOf(letter)
  const cut: Array<string> = unread === undefined ? [] : ["unread"]
  const more: Record<string, string> = {}
  if (unread !== undefined) {
    more["dlq-unread-bytes"] = String(unread.bytes)
    more["dlq-unread-sha256"] = unread.sha256
  }
  if (form.withoutHeaders && Object.keys(headers).length > 0) {
    cut.push("headers")
    more["dlq-headers"] = String(countOf(headers))
  }
  const valueIsCut = value !== null && value.length > form.valueBytes
  if (valueIsCut) {
    cut.push("value")
    more["dlq-value-bytes"] = String(value.length)
    more["dlq-value-sha256"] = sha256(value)
  }
  const keyIsCut = form.withoutLongKey && key !== null && key.length > shortKey
  if (keyIsCut) {
    cut.push("key")
    more["dlq-key-bytes"] = String(key.length)
    more["dlq-key-sha256"] = sha256(key)
  }
  const place = keyIsCut || (form.keyed && key === null) ? `${topic}/${partition}@${offset}` : undefined
  if (place !== undefined) more["dlq-key"] = "synthetic"
  if (cut.length > 0) more["dlq-cut"] = cut.join(",")
  if (refusal !== undefined) more["dlq-refusal"] = refusal
  const record = {
    topic: dlqTopic,
    key: place ?? key,
    // never null by cutting: on a compacted topic that would delete the letter
    value: valueIsCut ? value.subarray(0, form.valueBytes) : value,
    headers: {
      ...(form.withoutHeaders ? {} : headers),
      "dlq-reason": reason,
      "dlq-topic": topic,
      "dlq-partition": String(partition),
      "dlq-offset": offset,
      ...more
    }
  }
  return { letter, form, record, bytes: bytesOf(record) }
}

/** The first form of a letter: the unchanged record with headers for reason and position. A record above `largest` is cut. */
export const make = (letter: DeadLetter, dlqTopic: string): Draft => {
  const first = draft(letter, dlqTopic, whole)
  if (first.bytes <= largest) return first
  return shorter(first) ?? first
}

/** The same letter with its position as key; undefined when it has a key. */
export const withKey = ({ form, letter, record }: Draft, refusal: string): Draft | undefined =>
  record.key === null ? draft(letter, record.topic, { ...form, keyed: true }, refusal) : undefined

/**
 * The next shorter form of a letter: without the headers, then with the beginning of the value, then only with position,
 * sizes and hashes. Undefined when nothing is left to cut.
 */
export const shorter = (refused: Draft, refusal?: string): Draft | undefined => {
  const { form, letter, record } = refused
  const again = (part: Partial<Form>) => {
    const next = draft(letter, record.topic, { ...form, ...part }, refusal)
    return next.bytes > largest ? shorter(next, refusal) : next
  }
  const value = letter.value?.length ?? 0
  const headers = headersOf(letter)
  if (!form.withoutHeaders && bytesOf({ ...record, key: null, value: null, headers }) > fewHeaders) {
    return again({ withoutHeaders: true })
  }
  const beginning = beginnings.find((bytes) => bytes < Math.min(value, form.valueBytes))
  if (beginning !== undefined) return again({ valueBytes: beginning })
  const stub = { withoutHeaders: true, valueBytes: 0, withoutLongKey: true }
  const isStub = form.withoutHeaders && form.valueBytes === 0 && form.withoutLongKey
  return isStub ? undefined : again(stub)
}
