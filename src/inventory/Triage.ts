import { Either, Option } from "effect"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import * as InventoryLimits from "../domain/InventoryLimits.js"
import type { IncomingHeaders, IncomingRecord } from "../infra/kafka/KafkaConsumer.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Reservation } from "../payments/Reservation.js"

/** What there is to do with the records of a batch. */
export interface Triage {
  /** Reserved orders: each is to have a payment. */
  readonly reservations: ReadonlyArray<Reservation>
  /** Statuses that nobody here acts on. */
  readonly ignored: ReadonlyArray<string>
  readonly malformed: ReadonlyArray<{ readonly record: IncomingRecord; readonly reason: string }>
}

/** Length of a W3C `traceparent` of version 00. */
const traceparentLength = 55

/** A producer may write a header several times; then there is no saying which one is meant. */
const traceparent = (record: IncomingRecord): Option.Option<string> => {
  // null where the producer wrote a header without a value, whatever the types say
  const header: IncomingHeaders[string] | null = record.headers?.["traceparent"]
  return Array.isArray(header) || header?.length !== traceparentLength
    ? Option.none()
    : Option.filter(Option.some(header.toString()), (text) => Option.isSome(Trace.parse(text)))
}

/** Reads records, and sorts them by what is to be done. Statuses match exactly. */
export const triage = (records: ReadonlyArray<IncomingRecord>, accepted: ReadonlySet<string>): Triage => {
  const reservations: Array<Reservation> = []
  const ignored: Array<string> = []
  const malformed: Array<Triage["malformed"][number]> = []
  for (const record of records) {
    const refusal = InventoryLimits.refusal(record)
    if (refusal !== undefined) {
      malformed.push({ record, reason: refusal })
      continue
    }
    const decoded = InventoryEvent.decode(record.value)
    if (Either.isLeft(decoded)) malformed.push({ record, reason: decoded.left.reason })
    else if (!accepted.has(decoded.right.status)) ignored.push(decoded.right.status)
    else {
      const { idempotentKey, orderId } = decoded.right
      reservations.push({ idempotentKey, orderId, traceparent: traceparent(record) })
    }
  }
  return { reservations, ignored, malformed }
}
