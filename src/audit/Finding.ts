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
  "row-differs": { level: "fault", about: "events that differ from their record and their payment" },
  "unknown-record": { level: "fault", about: "records of no known order or event" },
  "unknown-event": { level: "fault", about: "events of no known payment" },
  "dead-letter-missing": { level: "fault", about: "malformed inventory records not on the dead-letter topic" },
  "resend": { level: "note", about: "records sent again with the same key" },
  "replayed": { level: "note", about: "records that an operator announced again" },
  "skipped-event": { level: "note", about: "events that an operator gave up: the readers never learn of them" },
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

/** What repairs a kind of finding: a command, or why there is none. */
const repairs: Readonly<Record<Kind, (finding: Finding) => string>> = {
  "lost-record": ({ orderId }) =>
    `payments order ${orderId} shows its idempotent_key; payments reserve ${orderId} --key <key> writes it again`,
  "skipped": () =>
    "no command: write the lost records again, and then reset the group (docs/runbook.md#inventory-records-were-skipped)",
  "missing-event": ({ orderId }) => `no command: its body is lost. payments order ${orderId} shows what is left`,
  "not-on-topic": ({ eventId }) => `payments outbox replay --event ${eventId}, or --missing for all of them`,
  "dead-event": ({ eventId }) => `payments outbox retry --event ${eventId}, or skip to give it up`,
  "double": ({ orderId }) => `payments outbox replay --order ${orderId}: its last record is then the right one`,
  "event-twice": ({ orderId }) => `no command: payments order ${orderId} shows both`,
  "order-broken": ({ orderId }) => `payments outbox replay --order ${orderId}: its last record is then the right one`,
  "late-resend": ({ orderId }) => `payments outbox replay --order ${orderId}: its last record is then the right one`,
  "split": ({ orderId }) =>
    `no command: a partition that was added or lost. payments order ${orderId} shows the records`,
  "contradiction": ({ orderId }) =>
    `payments order ${orderId} shows all of it; a person must decide which result holds`,
  "body-differs": ({ orderId }) => `payments outbox replay --order ${orderId} announces the bodies of the table`,
  "row-differs": ({ orderId }) =>
    `no command: the record is right, and the row was changed by hand. payments order ${orderId} shows both`,
  "unknown-record": ({ orderId }) =>
    orderId === undefined
      ? "no command: another program writes to the topic"
      : `no command: another program wrote it, or a restore lost the payment. payments order ${orderId}`,
  "unknown-event": ({ orderId }) =>
    `no command: a restore lost the payment. payments order ${orderId} shows what is left`,
  "dead-letter-missing": () =>
    "no command: the record is still on the inventory topic at this place; correct it, and write it again",
  "resend": () => "nothing to do: readers drop repeats by idempotent_key",
  "replayed": () => "nothing to do: payments operations shows who did it, and why",
  "skipped-event": ({ eventId }) => `payments outbox replay --event ${eventId} announces it after all`,
  "waiting": ({ orderId }) => `payments outbox list --order ${orderId} shows why it waits`,
  "unread": ({ orderId }) =>
    `payments order ${orderId} shows how many records come before it; /readyz/consumer says why it stands still`,
  "unknown": () => "nothing to do: it is older than what is kept"
}

/** The command that repairs a finding, or why there is none. */
export const repairOf = (finding: Finding): string => repairs[finding.kind](finding)
