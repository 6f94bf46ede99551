import type { Finding, Kind } from "./Finding.js"
import { kinds, repairOf } from "./Finding.js"
import type { Audited } from "./Run.js"

export interface Strictness {
  /** Resends are faults. */
  readonly noResends: boolean
  /** Unfinished work is a fault, because the audit has waited for it. */
  readonly waited: boolean
}

/** The topic names of the installation. */
export type TopicNames = Readonly<Record<"inventory" | "payment", string>>

const isFault = (kind: Kind, { noResends, waited }: Strictness) =>
  kinds[kind].level === "fault" || (noResends && kind === "resend") ||
  (waited && (kind === "waiting" || kind === "unread"))

/** The faults in one line; undefined when there are none. */
export const verdict = (audited: Audited, strictness: Strictness): string | undefined => {
  const wrong = audited.found.filter(({ kind }) => isFault(kind, strictness))
    .map(({ count, kind }) => `${count} ${kind}`)
  if (!audited.drained) wrong.unshift("not drained in time")
  return wrong.length === 0 ? undefined : wrong.join(", ")
}

const where = ({ at, eventId, orderId }: Finding, names: TopicNames) =>
  [
    ...(orderId === undefined ? [] : [`order ${orderId}`]),
    ...(at === undefined ? [] : [`${names[at.topic]}/${at.partition}@${at.offset}`]),
    ...(eventId === undefined ? [] : [`event ${eventId}`])
  ].join(", ")

/** The report for people: counts, findings, and the verdict as the last line. */
export const text = (audited: Audited, strictness: Strictness, names: TopicNames): string => {
  const { deadLetters, inventory, oldestWaiting, tables } = audited
  const age = tables.WAIT === 0 ? "" : ` (the oldest for ${Math.round(oldestWaiting)} s)`
  const unreadable = tables.unreadable === 0 ? "" : `, ${tables.unreadable} of no order`
  const table: ReadonlyArray<readonly [string, number, string]> = [
    ["orders", audited.orders, `${(audited.bytes / 1e6).toFixed(1)} MB of facts`],
    [
      "inventory records",
      inventory.records,
      `${inventory.accepted} accepted, ${inventory.ignored} ignored, ${inventory.malformed} malformed, ` +
      `${inventory.unread} not consumed yet`
    ],
    ["dead letters", deadLetters, ""],
    ["payments", tables.payments, ""],
    [
      "events",
      tables.WAIT + tables.DONE + tables.DEAD,
      `${tables.DONE} DONE, ${tables.WAIT} WAIT${age}, ${tables.DEAD} DEAD${unreadable}`
    ],
    ["payment records", audited.records, ""]
  ]
  const found = audited.found.flatMap(({ count, examples, kind }) => [
    "",
    `${isFault(kind, strictness) ? "FAULT" : "note "}  ${kind}: ${count} (${kinds[kind].about})`,
    ...examples.flatMap((finding) => [`  ${where(finding, names)}: ${finding.detail}`, `    ${repairOf(finding)}`]),
    ...(count > examples.length ? [`  and ${count - examples.length} more`] : [])
  ])
  const wrong = verdict(audited, strictness)
  return [
    ...table.map(([name, count, detail]) => `${name.padEnd(18)}${String(count).padStart(10)}  ${detail}`.trimEnd()),
    ...found,
    "",
    wrong === undefined ? "clean" : `not clean: ${wrong}`
  ].join("\n")
}

/** The report for programs: one document an example, and the counts as the last one. */
export const documents = (
  audited: Audited,
  strictness: Strictness,
  names: TopicNames
): ReadonlyArray<Record<string, unknown>> => [
  ...audited.found.flatMap(({ examples, kind }) =>
    examples.map((finding) => ({ ...finding, repair: repairOf(finding) })).map((
      { at, detail, eventId, orderId, repair }
    ) => ({
      finding: kind,
      fault: isFault(kind, strictness),
      order_id: orderId ?? null,
      topic: at === undefined ? null : names[at.topic],
      partition: at?.partition ?? null,
      offset: at === undefined ? null : String(at.offset),
      event_id: eventId === undefined ? null : String(eventId),
      detail,
      repair
    }))
  ),
  {
    clean: verdict(audited, strictness) === undefined,
    drained: audited.drained,
    orders: audited.orders,
    inventory: audited.inventory,
    dead_letters: audited.deadLetters,
    tables: audited.tables,
    oldest_waiting_seconds: audited.oldestWaiting,
    payment_records: audited.records,
    found: Object.fromEntries(audited.found.map(({ count, kind }) => [kind, count])),
    bytes: audited.bytes
  }
]
