import { Duration } from "effect"
import type { Blocking, Group, UndoneEvent } from "../repair/OutboxEvents.js"
import type { PlannedEvent } from "../repair/Plan.js"

/** `1 event`, `2 events`. */
export const counted = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`

/** A time as text, to the millisecond; `-` without one. */
export const iso = (time: Date | null | undefined) => time?.toISOString() ?? "-"

/** The time between two moments, in its two largest units. */
export const age = (from: Date, now: number) => {
  const parts = Duration.format(Duration.seconds(Math.max(0, Math.round((now - from.getTime()) / 1000)))).split(" ")
  return parts.slice(0, 2).join(" ")
}

/** A table with aligned columns; two spaces between them. */
export const table = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd())
}

const order = (id: string | null) => id ?? "-"

export const group = ({ count, examples, last_error, oldest, state }: Group, now: number) => [
  String(count),
  state,
  last_error ?? "no error",
  `oldest ${age(oldest, now)} ago`,
  `e.g. ${examples.join(", ")}`
]

export const undone = (event: UndoneEvent, now: number) => [
  `event ${event.id}`,
  `order ${order(event.order_id)}`,
  event.says ?? "-",
  event.state,
  `attempts ${event.attempts}`,
  `${age(event.created_at, now)} old`,
  event.last_error ?? ""
]

export const blocking = (event: Blocking, now: number) => [
  `event ${event.id}`,
  `order ${order(event.order_id)}`,
  event.says ?? "-",
  `behind it: ${event.behind}`,
  event.behind_since === null ? "" : `for ${age(event.behind_since, now)}`,
  `attempts ${event.attempts}`,
  event.last_error ?? ""
]

/** How many events of a plan a preview shows. */
const shown = 10

/** The first events of a plan, and how many there are. */
export const plan = (events: ReadonlyArray<PlannedEvent>, now: number) =>
  [
    ...table(
      events.slice(0, shown).map((event) => [
        `event ${event.id}`,
        `order ${event.order_id}`,
        event.says ?? "-",
        event.status,
        `attempts ${event.attempts}`,
        `${age(event.created_at, now)} old`,
        event.last_error ?? ""
      ])
    ),
    ...(events.length > shown ? [`and ${events.length - shown} more`] : [])
  ].join("\n")
