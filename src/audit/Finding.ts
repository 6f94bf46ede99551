/** The kinds of findings. A `fault` breaks a promise, a `note` does not. */
export const kinds = {
  "lost-record": { level: "fault", about: "accepted inventory records without a payment" },
  "skipped": { level: "fault", about: "partitions with inventory records that were gone before they were read" },
  "missing-event": { level: "fault", about: "transitions of payments without an event" },
  "not-on-topic": { level: "fault", about: "DONE events that are not on the topic" },
  "dead-event": { level: "fault", about: "DEAD events" },
  "double": { level: "fault", about: "transitions that are on the topic again with another key" },
  "event-twice": { level: "fault", about: "transitions with several events in the table" },
  "order-broken": { level: "fault", about: "CREATED after the terminal record" },
  "late-resend": { level: "fault", about: "CREATED sent again after the terminal record" },
  "split": { level: "fault", about: "orders on several partitions" },
  "contradiction": { level: "fault", about: "orders with contradicting results" },
  "body-differs": { level: "fault", about: "records that differ from their event" },
  "unknown-record": { level: "fault", about: "records of no known order or event" },
  "unknown-event": { level: "fault", about: "events of no known payment" },
  "dead-letter-missing": { level: "fault", about: "malformed inventory records not on the dead-letter topic" },
  "resend": { level: "note", about: "records sent again with the same key" },
  "waiting": { level: "note", about: "events not published yet" },
  "unread": { level: "note", about: "accepted inventory records not consumed yet" },
  "unknown": { level: "note", about: "undecidable: row and record are older than their retention" }
} as const satisfies Record<string, { readonly level: "fault" | "note"; readonly about: string }>

export type Kind = keyof typeof kinds

/** A finding and its position. */
export interface Finding {
  readonly kind: Kind
  /** Undefined when the record cannot be read. */
  readonly orderId?: bigint
  readonly at?: { readonly topic: "inventory" | "payment"; readonly partition: number; readonly offset: number }
  /** Row of table `event`. */
  readonly eventId?: number
  readonly detail: string
}
