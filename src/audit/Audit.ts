import type { PaymentStatus } from "../domain/Payment.js"
import type { EventRow, Horizon, KeyDigest, OrderFacts, PaymentRow, TopicRecord } from "./Facts.js"
import type { Finding, Kind } from "./Finding.js"

const recordAt = ({ offset, partition }: TopicRecord) => ({ at: { topic: "payment", partition, offset } }) as const

const isTerminal = (status: PaymentStatus | undefined) => status === "COMPLETED" || status === "FAILED"

/** A record and its event. The event row may be deleted already; then the record alone states the transition. */
interface Sent {
  readonly record: TopicRecord
  readonly row: EventRow | undefined
  readonly of: PaymentStatus
}

type Add = (kind: Kind, detail: string, where?: Partial<Finding>) => void

/** Judges an order without a payment: one finding, at the record or event where an operator would start. */
const judgeStray = ({ accepted, events, records }: OrderFacts, add: Add) => {
  const open = accepted.filter(({ keyTaken }) => !keyTaken)
  const lost = open.find(({ read }) => read)
  const at = ({ offset, partition }: typeof open[number]) =>
    ({ at: { topic: "inventory", partition, offset } }) as const
  if (lost !== undefined) return add("lost-record", "no payment", at(lost))
  if (events.length > 0) return add("unknown-event", "no payment of this order", { eventId: events[0]!.id })
  for (const record of records) add("unknown-record", "no payment of this order", recordAt(record))
  if (open.length > 0) add("unread", "not consumed yet", at(open[0]!))
}

/** How a record differs from its event; undefined when it does not. */
const difference = ({ of, record, row }: Sent): string | undefined => {
  if (record.says !== of) return `says ${record.says ?? "nothing that can be read"}, its event ${of}`
  if (row?.adopted === true) return undefined
  if (!record.exact) return "the body is not that of the event"
  return record.keyed || row === undefined ? undefined : "the record key is not the order id"
}

/**
 * Why the row is the wrong one of a row and its record; undefined when it is not. The payment decides: a transition that it
 * never had is the mistake.
 */
const rowMistake = (row: EventRow, record: TopicRecord, payment: PaymentRow): string | undefined => {
  if (row.adopted || row.says === undefined) return undefined
  const had = (says: PaymentStatus | undefined) => says === "CREATED" || (says !== undefined && says === payment.status)
  if (record.says !== undefined && !had(row.says) && had(record.says)) {
    return `says ${row.says}, its record and the payment ${record.says}`
  }
  return record.exact && record.says === row.says && !row.exact
    ? "its payload is not that of its record, which is exact"
    : undefined
}

/** Judges the records of an order as a sequence: one partition, no repeats, CREATED first. */
const judgeSequence = (sent: ReadonlyArray<Sent>, add: Add) => {
  const seen = new Set<KeyDigest>()
  let partition: number | undefined
  let terminal: TopicRecord | undefined
  for (const { of, record, row } of sent) {
    if (partition !== undefined && partition !== record.partition) {
      return add("split", `records on partitions ${partition} and ${record.partition}`, recordAt(record))
    }
    partition = record.partition
    const again = seen.has(record.key)
    seen.add(record.key)
    if (again && row?.replayed === true) add("replayed", of, recordAt(record))
    else if (of === "CREATED" && terminal !== undefined) {
      add(again ? "late-resend" : "order-broken", `after offset ${terminal.offset}`, recordAt(record))
    } else if (again) add("resend", of, recordAt(record))
    if (isTerminal(of)) terminal ??= record
  }
}

/** Adds a finding when records or events contradict the payment's terminal status. Returns true when they agree. */
const judgeResult = (
  payment: PaymentRow,
  events: ReadonlyArray<EventRow>,
  sent: ReadonlyArray<Sent>,
  add: Add
): boolean => {
  const record = sent.find(({ of }) => isTerminal(of) && of !== payment.status)
  if (record !== undefined) {
    add("contradiction", `the topic says ${record.of}, the payment ${payment.status}`, recordAt(record.record))
    return false
  }
  const row = events.find(({ says }) => isTerminal(says) && says !== payment.status)
  if (row !== undefined) {
    add("contradiction", `the event says ${row.says}, the payment ${payment.status}`, { eventId: row.id })
  }
  return row === undefined
}

/**
 * Judges one order by all its facts. Each fault is one finding, at the record or event where an operator would look first; its
 * consequences are no findings of their own.
 */
export const judge = (order: OrderFacts, horizon: Horizon): ReadonlyArray<Finding> => {
  const findings: Array<Finding> = []
  const add: Add = (kind, detail, where) => findings.push({ kind, orderId: order.orderId, detail, ...where })
  const { events, payment, records } = order
  if (payment === undefined) {
    judgeStray(order, add)
    return findings
  }

  const rowOf = new Map(events.map((row) => [row.key, row]))
  const onTopic = new Set(records.map(({ key }) => key))
  const wrongRows = new Set<EventRow>()
  const keyGone = new Map<PaymentStatus, KeyDigest>()
  const sent: Array<Sent> = []
  // number of unreadable records: each may belong to an event whose record is missing
  let illegible = 0

  for (const record of records) {
    const row = rowOf.get(record.key)
    const mistake = row === undefined ? undefined : rowMistake(row, record, payment)
    if (mistake !== undefined && !wrongRows.has(row!)) {
      wrongRows.add(row!)
      add("row-differs", mistake, { eventId: row!.id })
    }
    const says = (mistake === undefined ? row?.says : undefined) ?? record.says
    if (says === undefined) {
      illegible++
      add("body-differs", "no payment event", recordAt(record))
      continue
    }
    const one = { record, row, of: says }
    const differs = difference(one)
    if (differs !== undefined) add("body-differs", differs, recordAt(record))
    if (row === undefined) {
      const rows = events.filter((event) => event.says === says)
      const first = keyGone.get(says)
      const replaced = rows.find((event) => event.state === "DONE" && !onTopic.has(event.key))
      if (replaced !== undefined) {
        onTopic.add(replaced.key)
        const detail = `its idempotent_key is not that of event ${replaced.id}`
        if (differs === undefined) add("body-differs", detail, recordAt(record))
        continue
      }
      if (rows.length > 0 || (first !== undefined && first !== record.key)) {
        add("double", says, recordAt(record))
        continue
      }
      keyGone.set(says, record.key)
      const stranger = record.at >= horizon.prunedBefore && (says === "CREATED" || says === payment.status)
      if (stranger && first === undefined) add("unknown-record", `no event of ${says}`, recordAt(record))
    } else if (events.some((event) => event.says === says && event.id < row.id && onTopic.has(event.key))) {
      add("double", says, recordAt(record))
      continue
    }
    sent.push(one)
  }

  judgeSequence(sent, add)
  const consistent = judgeResult(payment, events.filter((row) => !wrongRows.has(row)), sent, add)

  const transitions: ReadonlyArray<readonly [PaymentStatus, number]> = [
    ["CREATED", payment.createdAt],
    ...(isTerminal(payment.status) && consistent ? [[payment.status, payment.updatedAt] as const] : [])
  ]
  for (const [transition, time] of transitions) {
    const rows = events.filter(({ says }) => says === transition)
    if (rows.length > 1) add("event-twice", transition, { eventId: rows[1]!.id })
    if (rows.length > 0 || sent.some(({ of }) => of === transition) || illegible-- > 0) continue
    const untold = time < horizon.prunedBefore && time < horizon.topicFrom
    add(untold ? "unknown" : "missing-event", `${transition}: neither row nor record`)
  }

  for (const row of events) {
    const where = { eventId: row.id }
    if (row.state === "DEAD") add("dead-event", row.says ?? "payload is no payment event", where)
    else if (row.says === undefined) add("unknown-event", "payload is no payment event", where)
    else if (onTopic.has(row.key)) continue
    else if (row.skipped) add("skipped-event", row.says, where)
    else if (row.state === "WAIT") add("waiting", row.says, where)
    else if (!row.due || illegible-- > 0) continue
    else add(row.createdAt < horizon.topicFrom ? "unknown" : "not-on-topic", row.says, where)
  }
  return findings
}
