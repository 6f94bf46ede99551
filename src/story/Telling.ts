import { Duration } from "effect"
import * as Letters from "../repair/Letter.js"
import * as Conclusion from "./Conclusion.js"
import type { EventFact, RecordFact, Story } from "./Facts.js"
import { traceId } from "./Facts.js"

const iso = (time: Date | null) => time?.toISOString() ?? "-"

const place = (
  { offset, partition, topic }: { readonly topic: string; readonly partition: number; readonly offset: string }
) => `${topic}/${partition}@${offset}`

const record = (fact: RecordFact) =>
  `record     ${place(fact)}  ${iso(fact.at)}  ${fact.status}, idempotent_key ${fact.idempotent_key}` +
  `${fact.record_key === null ? "" : `, key ${JSON.stringify(fact.record_key)}`}: ${fact.decision}` +
  (fact.before > 1 ? ` (${fact.before - 1} records before it)` : "")

const elapsed = (from: Date, to: Date) => Duration.format(Duration.millis(Math.max(0, to.getTime() - from.getTime())))

const worker = ({ batch, lease_token, owner, shard }: EventFact) =>
  batch !== null
    ? `, batch ${batch} of shard ${shard}, relay ${owner ?? "none"}`
    : lease_token === null
    ? ""
    : `, claim ${lease_token}`

const standing = (event: EventFact) => {
  switch (event.state) {
    case "done":
      return `DONE ${iso(event.done_at)}, ${
        event.done_at === null ? "" : elapsed(event.created_at, event.done_at)
      } after it was written`
    case "dead":
      return "DEAD"
    case "leased":
      return `leased until ${iso(event.reserved_to)}`
    case "backing-off":
      return `waits until ${iso(event.reserved_to)}`
    case "behind":
      return "waits behind an earlier event of the order"
    case "due":
      return "due"
  }
}

const eventLines = (story: Story, event: EventFact): ReadonlyArray<string> => {
  const skip = Conclusion.skipOf(story, event)
  const waiting = Conclusion.behind(story, event)
  const error = event.last_error === null ? "" : `, last error ${event.last_error}`
  return [
    `event      ${event.id}  ${event.says ?? "unreadable"}, written ${iso(event.created_at)}: ${
      skip === undefined ? standing(event) : `skipped by ${skip.operator}`
    }, attempts ${event.attempts}${error}${worker(event)}`,
    ...Conclusion.recordsOf(story, event).map((record, i) =>
      `           ${i === 0 ? "on the topic" : "again"}: ${place(record)}  ${iso(record.at)}`
    ),
    ...(event.status !== "DONE" && waiting.length > 0
      ? [`           behind it: ${waiting.map(({ id, says }) => `event ${id} (${says})`).join(", ")}`]
      : [])
  ]
}

/** Records of topic `payment` whose event has no row (deleted after the retention), or that differ from it. */
const strays = (story: Story) =>
  story.announced.filter((record) => !story.events.some((event) => Conclusion.recordsOf(story, event).includes(record)))

const traces = (story: Story) => [
  ...new Set([...story.records, ...story.events].flatMap(({ traceparent }) => traceId(traceparent) ?? []))
]

/** The story for a person: a line a fact, in the order of its life, and the conclusion as the last lines. */
export const text = (story: Story): string => {
  const { payment } = story
  const { command, says } = Conclusion.conclude(story)
  const searched = Object.values(story.searched).flatMap(({ problem, since, topic, until }) =>
    problem !== undefined
      ? [`not read   topic ${topic}: ${problem}`]
      : since !== undefined
      ? [
        `searched   topic ${topic} from ${iso(since)}${
          until === undefined ? "" : ` to ${iso(until)}`
        }; --since searches further`
      ]
      : []
  )
  return [
    `order      ${story.orderId}`,
    ...story.records.map(record),
    ...story.letters.map(({ letter, replays }) =>
      `letter     ${Letters.show(letter)}  ${letter.reason}, original ${letter.original}` +
      (replays.last === null ? "" : `, replayed ${iso(replays.last.at)} by ${replays.last.operator}`)
    ),
    ...(payment === undefined ? ["payment    none"] : [
      `payment    CREATED ${iso(payment.created_at)}` +
      (payment.status === "CREATED" ? "" : `, ${payment.status} ${iso(payment.updated_at)}`) +
      (payment.reason === null ? "" : ` (${payment.reason})`) +
      (payment.settled_by === null ? "" : `, settled by ${payment.settled_by}`) +
      (payment.inventory_key === null ? "" : `, by idempotent_key ${payment.inventory_key}`)
    ]),
    ...story.events.flatMap((event) => eventLines(story, event)),
    ...strays(story).map((record) =>
      `announced  ${place(record)}  ${iso(record.at)}  ${record.says ?? "unreadable"}, event ${
        record.event_id ?? "-"
      }: no row of the table has it`
    ),
    ...[...story.operations].reverse().map(({ action, at, event_id, operator, place, reason }) =>
      `operation  ${iso(at)}  ${action} ${
        event_id === null ? place?.split(" ")[0] ?? "" : `event ${event_id}`
      } by ${operator}: ${reason}`
    ),
    ...traces(story).map((id) => `trace      ${id}`),
    ...searched,
    "",
    says,
    ...(command === null ? [] : [`  ${command}`])
  ].join("\n")
}

/** The story for a program. */
export const document = (story: Story): Record<string, unknown> => ({
  order_id: story.orderId,
  records: story.records,
  dead_letters: story.letters.map(({ letter, replays }) => ({
    partition: letter.partition,
    offset: letter.offset,
    reason: letter.reason,
    original: letter.original,
    replays: replays.count,
    replayed_at: replays.last?.at ?? null
  })),
  payment: story.payment === undefined ? null : {
    status: story.payment.status,
    created_at: story.payment.created_at,
    updated_at: story.payment.updated_at,
    inventory_key: story.payment.inventory_key,
    reason: story.payment.reason,
    settled_by: story.payment.settled_by
  },
  events: story.events.map((event) => ({
    ...event,
    records: Conclusion.recordsOf(story, event).map(({ at, offset, partition, topic }) => ({
      topic,
      partition,
      offset,
      at
    })),
    behind: event.status === "DONE" ? [] : Conclusion.behind(story, event).map(({ id }) => id),
    skipped_by: Conclusion.skipOf(story, event)?.operator ?? null
  })),
  other_records: strays(story),
  operations: story.operations,
  trace_ids: traces(story),
  searched: story.searched,
  ...Conclusion.conclude(story)
})
