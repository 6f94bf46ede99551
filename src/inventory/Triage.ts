import { Either, Option } from "effect"
import * as InventoryEvent from "../domain/InventoryEvent.js"
import * as InventoryLimits from "../domain/InventoryLimits.js"
import type { IncomingHeaders, IncomingRecord } from "../infra/kafka/KafkaConsumer.js"
import * as Trace from "../infra/runtime/Trace.js"
import type { Reservation } from "../payments/Reservation.js"

/** The records of a batch, sorted by what to do with them. */
export interface Triage {
  /** Reserved orders that need a payment. */
  readonly reservations: ReadonlyArray<Reservation>
  /** Statuses of records outside the accepted statuses. */
  readonly ignored: ReadonlyArray<string>
  /** Records that become dead letters, with the reason. */
  readonly malformed: ReadonlyArray<{ readonly record: IncomingRecord; readonly reason: string }>
}

/** Length of a W3C `traceparent` of version 00. */
const traceparentLength = 55

/** The `traceparent` header; none when it is invalid, or written several times and so ambiguous. */
export const traceparent = (record: IncomingRecord): Option.Option<string> => {
  // null for a header without a value, against its type
  const header: IncomingHeaders[string] | null = record.headers?.["traceparent"]
  return Array.isArray(header) || header?.length !== traceparentLength
    ? Option.none()
    : Option.filter(Option.some(header.toString()), (text) => Option.isSome(Trace.parse(text)))
}

/** Decodes records and sorts them. A status must equal one of `accepted` exactly. `contextOf` gives the trace context of a record. */
export const triage = (
  records: ReadonlyArray<IncomingRecord>,
  accepted: ReadonlySet<string>,
  contextOf: (record: IncomingRecord) => Option.Option<string> = traceparent
): Triage => {
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
      reservations.push({ idempotentKey, orderId, traceparent: contextOf(record) })
    }
  }
  return { reservations, ignored, malformed }
}
