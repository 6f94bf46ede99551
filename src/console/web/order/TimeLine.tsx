import type { ComponentChildren } from "preact"
import * as Route from "../Route.js"
import { Time } from "../Time.js"
import type * as Wire from "../Wire.js"

interface Moment {
  /** Null: at the end, with no time. */
  readonly at: string | null
  /** Its place in the line, where clocks of two servers differ; by default its time. */
  readonly after?: string | null
  readonly kind: "ok" | "warn" | "bad" | "info" | ""
  readonly what: ComponentChildren
  readonly facts: ReadonlyArray<readonly [string, ComponentChildren]>
}

const place = (
  { offset, partition, topic }: { readonly topic: string; readonly partition: number; readonly offset: string }
) => `${topic}/${partition}@${offset}`

const recordKind = (decision: string): Moment["kind"] =>
  decision === "created the payment" ? "ok" : /^(repeat|ignored|not read)/.test(decision) ? "info" : "bad"

const known = (facts: ReadonlyArray<readonly [string, ComponentChildren]>) =>
  facts.filter(([, value]) => value !== null && value !== undefined && value !== "")

const records = (story: Wire.Story): ReadonlyArray<Moment> =>
  story.records.map((record) => ({
    at: record.at,
    kind: recordKind(record.decision),
    what: `Inventory record ${record.status}: ${record.decision}`,
    facts: known([
      ["place", place(record)],
      ["idempotent_key", <code>{record.idempotent_key}</code>],
      ["key", record.record_key],
      ["before it", record.before > 1 ? `${record.before - 1} records` : ""],
      ["traceparent", record.traceparent === null ? "" : <code>{record.traceparent}</code>]
    ])
  }))

const letters = (story: Wire.Story): ReadonlyArray<Moment> =>
  story.dead_letters.map((letter) => ({
    at: letter.replayed_at,
    kind: letter.replays === 0 ? "bad" : "info",
    what: (
      <a href={Route.to(["dead-letters", String(letter.partition), letter.offset])}>
        Dead letter {letter.partition}@{letter.offset}
      </a>
    ),
    facts: [["reason", letter.reason], ["original", letter.original], ["replays", letter.replays]]
  }))

const payment = ({ payment }: Wire.Story): ReadonlyArray<Moment> =>
  payment === null ? [] : [
    { at: payment.created_at, kind: "ok", what: "Payment CREATED", facts: known([["by key", payment.inventory_key]]) },
    ...(payment.status === "CREATED" ? [] : [{
      at: payment.updated_at,
      kind: payment.status === "COMPLETED" ? "ok" as const : "bad" as const,
      what: `Payment ${payment.status}`,
      facts: known([["settled by", payment.settled_by], ["reason", payment.reason]])
    }])
  ]

const stateKind = (state: string): Moment["kind"] =>
  state === "done" ? "ok" : state === "dead" ? "bad" : state === "leased" ? "info" : "warn"

const events = (story: Wire.Story): ReadonlyArray<Moment> =>
  story.events.flatMap((event) => [
    {
      at: event.created_at,
      kind: stateKind(event.state),
      what: `Event ${event.id} (${event.says ?? "unreadable"}) written: ${
        event.skipped_by === null
          ? event.status === "DONE" ? "WAIT, and DONE later" : `${event.status}, ${event.state}`
          : `skipped by ${event.skipped_by}`
      }`,
      facts: known([
        ["attempts", event.attempts === 0 ? "" : event.attempts],
        ["last error", event.last_error],
        ["until", event.reserved_to === null || event.status === "DONE" ? "" : <Time at={event.reserved_to} />],
        ["claim", event.lease_token === null || event.status === "DONE" ? "" : <code>{event.lease_token}</code>],
        ["batch", event.batch === null ? "" : `${event.batch} of shard ${event.shard}, relay ${event.owner ?? "none"}`],
        ["idempotent_key", event.idempotent_key === null ? "" : <code>{event.idempotent_key}</code>],
        ["holds up", event.behind.length === 0 ? "" : `event ${event.behind.join(", ")}`],
        ["traceparent", event.traceparent === null ? "" : <code>{event.traceparent}</code>]
      ])
    },
    ...event.records.map((record, index) => ({
      at: record.at,
      kind: index === 0 ? "ok" as const : "warn" as const,
      what: `${event.says ?? "Event"} ${index === 0 ? "on topic" : "again on topic"} ${record.topic}`,
      facts: [["place", place(record)]] as const
    })),
    ...(event.done_at === null ? [] : [{
      at: event.done_at,
      // the topic has the time of the relay: a mark never comes before the record that it marks
      after: [event.done_at, ...event.records.slice(0, 1).map(({ at }) => at)].reduce((a, b) =>
        (a ?? "") > (b ?? "") ? a : b
      ),
      kind: "ok" as const,
      what: `Event ${event.id} (${event.says ?? "unreadable"}) DONE`,
      facts: []
    }])
  ])

const strays = (story: Wire.Story): ReadonlyArray<Moment> =>
  story.other_records.map((record) => ({
    at: record.at,
    kind: "warn",
    what: `${record.says ?? "Unreadable record"} on topic ${record.topic}, without a row in table event`,
    facts: known([["place", place(record)], ["event", record.event_id]])
  }))

const operations = (story: Wire.Story): ReadonlyArray<Moment> =>
  story.operations.map((operation) => ({
    at: operation.at,
    kind: "info",
    what: `Operation ${operation.action} by ${operation.operator}`,
    facts: known([["reason", operation.reason], ["event", operation.event_id], [
      "place",
      operation.place?.split(" ")[0]
    ]])
  }))

/** What happened to an order, by time: records, payment, events, places on the topic, operations. */
export const TimeLine = ({ story }: { readonly story: Wire.Story }) => {
  const moments = [records, payment, events, strays, letters, operations].flatMap((of) => of(story))
  const key = ({ after, at }: Moment) => after ?? at ?? "9"
  const sorted = [...moments].sort((a, b) => key(a).localeCompare(key(b)))
  return (
    <ol class="line">
      {sorted.map((moment, index) => (
        <li class={moment.kind} key={index}>
          <div class="row">
            <span class="what">{moment.what}</span>
            {moment.at === null ? null : (
              <span class="muted small">
                <Time at={moment.at} millis />
              </span>
            )}
          </div>
          {moment.facts.length === 0 ?
            null :
            (
              <dl class="facts">
                {moment.facts.map((
                  [name, value]
                ) => [<dt key={`${name} name`}>{name}</dt>, <dd key={`${name} value`}>{value}</dd>])}
              </dl>
            )}
        </li>
      ))}
    </ol>
  )
}
