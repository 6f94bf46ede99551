import { assert, it } from "@effect/vitest"
import type { Filed } from "../../src/repair/Filed.js"
import type { Operation } from "../../src/repair/Operations.js"
import * as Conclusion from "../../src/story/Conclusion.js"
import type { AnnouncedFact, EventFact, RecordFact, Searched, Story } from "../../src/story/Facts.js"
import * as Telling from "../../src/story/Telling.js"

const at = new Date("2026-01-02T03:04:05.000Z")
const keys = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"] as const
const whole = (topic: string): Searched => ({ topic, since: undefined, until: undefined, problem: undefined })

const record: RecordFact = {
  topic: "inventory",
  partition: 2,
  offset: "17",
  at,
  record_key: null,
  idempotent_key: "00000000-0000-4000-8000-00000000000f",
  status: "COMPLETED",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
  decision: "created the payment",
  before: 0
}

const event = (n: 0 | 1, changes: Partial<EventFact> = {}): EventFact => ({
  id: String(4711 + n),
  topic: "payment",
  says: n === 0 ? "CREATED" : "COMPLETED",
  idempotent_key: keys[n],
  status: "DONE",
  state: "done",
  attempts: 0,
  last_error: null,
  created_at: at,
  done_at: new Date(at.getTime() + 12),
  reserved_to: null,
  lease_token: null,
  batch: null,
  shard: null,
  owner: null,
  traceparent: record.traceparent,
  ...changes
})

const announced = (n: 0 | 1): AnnouncedFact => ({
  topic: "payment",
  partition: 3,
  offset: String(5 + n),
  at,
  idempotent_key: keys[n],
  says: n === 0 ? "CREATED" : "COMPLETED",
  event_id: String(4711 + n)
})

const payment = {
  status: "COMPLETED",
  created_at: at,
  updated_at: at,
  inventory_key: record.idempotent_key,
  reason: null,
  settled_by: null
} as const

const complete: Story = {
  orderId: 111n,
  now: at,
  records: [record],
  payment,
  events: [event(0), event(1)],
  announced: [announced(0), announced(1)],
  letters: [],
  operations: [],
  raw: [],
  searched: { inventory: whole("inventory"), payment: whole("payment"), deadLetters: whole("inventory.dlq") },
  retention: 7 * 86_400_000
}

const letter: Filed = {
  replays: { count: 0, last: null },
  letter: {
    partition: 1,
    offset: "9",
    at: at.getTime(),
    key: null,
    value: null,
    headers: {},
    reason: "order_id is not a number",
    original: "inventory/2@17",
    cut: [],
    record: { key: null, value: null, headers: {}, offset: "9", timestamp: "0" }
  }
}

const skip: Operation = {
  id: "1",
  run: "r",
  at,
  operator: "ann@host",
  role: "payments",
  action: "outbox skip",
  reason: "a test",
  order_id: "111",
  event_id: "4711",
  place: null,
  before: {},
  after: {}
}

const dead = event(0, { status: "DEAD", state: "dead", attempts: 10, last_error: "MESSAGE_TOO_LARGE", done_at: null })
const behind = event(1, { status: "WAIT", state: "behind", done_at: null })
const none = { records: [], payment: undefined, events: [], announced: [] }

/** An order in a state, what the conclusion says, and the command that it names. */
const states: ReadonlyArray<readonly [Conclusion.Conclusion["state"], Partial<Story>, RegExp, string | null]> = [
  ["complete", {}, /^The order is complete/, null],
  ["complete", { payment: { ...payment, status: "FAILED", reason: "expired" } }, /^The payment expired/, null],
  [
    "created",
    { payment: { ...payment, status: "CREATED" }, events: [event(0)], announced: [announced(0)] },
    /waits to be paid or refused/,
    "payments pay 111"
  ],
  [
    "event-dead",
    { events: [dead, behind], announced: [] },
    /event 4711 \(CREATED\) is dead after 10 attempts \(MESSAGE_TOO_LARGE\), and COMPLETED waits behind it/,
    "payments outbox retry --event 4711 --reason <why>"
  ],
  [
    "event-backing-off",
    {
      events: [
        event(0),
        event(1, { status: "WAIT", state: "backing-off", attempts: 2, last_error: "POLICY_VIOLATION", reserved_to: at })
      ]
    },
    /refused event 4712 \(COMPLETED\) 2 times \(POLICY_VIOLATION\)/,
    "payments outbox retry --event 4712 --reason <why>"
  ],
  [
    "event-leased",
    { events: [event(0), event(1, { status: "WAIT", state: "leased", reserved_to: at, lease_token: "t" })] },
    /A relay has event 4712 \(COMPLETED\) in hand/,
    null
  ],
  [
    "event-leased",
    { events: [event(0), event(1, { status: "WAIT", state: "leased", batch: "7", shard: 1 })] },
    /in batch 7 of shard 1/,
    "payments shards"
  ],
  [
    "event-due",
    { events: [event(0), event(1, { status: "WAIT", state: "due" })] },
    /waits for a relay/,
    "payments outbox list"
  ],
  [
    "event-skipped",
    { operations: [skip], announced: [announced(1)] },
    /ann@host skipped event 4711 \(CREATED\)/,
    "payments outbox replay --event 4711 --reason <why>"
  ],
  [
    "not-on-topic",
    { announced: [announced(0)] },
    /Event 4712 \(COMPLETED\) was acknowledged at .* and is not on topic payment/,
    "payments outbox replay --order 111 --reason <why>"
  ],
  [
    "untold",
    {
      announced: [],
      searched: { ...complete.searched, payment: { ...whole("payment"), problem: "kafka is not available" } }
    },
    /Topic payment cannot be read now/,
    "payments order 111"
  ],
  ["no-event", { events: [event(0)], announced: [announced(0)] }, /has no row/, "payments audit --order 111"],
  [
    "untold",
    { events: [], announced: [], now: new Date(at.getTime() + 8 * 86_400_000) },
    /older than OUTBOX_RETENTION/,
    null
  ],
  [
    "dead-letter",
    { ...none, letters: [letter] },
    /its record inventory\/2@17 is a dead letter \(order_id is not a number\)/,
    "payments dead-letters replay 1@9 --edit --reason <why>"
  ],
  [
    "unread",
    { ...none, records: [{ ...record, decision: "not read yet", before: 5 }] },
    /record inventory\/2@17 is not read yet, and 4 records come before it/,
    "payments order 111"
  ],
  [
    "ignored",
    {
      ...none,
      records: [{ ...record, status: "FAILED", decision: "ignored: its status is not in INVENTORY_ACCEPT_STATUSES" }]
    },
    /has status "FAILED", which INVENTORY_ACCEPT_STATUSES does not accept/,
    null
  ],
  [
    "key-taken",
    { ...none, records: [{ ...record, decision: "no payment: its idempotent_key belongs to another order" }] },
    /belongs to another order/,
    "payments reserve 111"
  ],
  [
    "lost-record",
    { ...none, records: [{ ...record, decision: "read, and no payment" }] },
    /the payment is missing/,
    `payments reserve 111 --key ${record.idempotent_key} --status COMPLETED`
  ],
  ["no-payment", { ...none, events: [event(0)] }, /its payment does not/, "payments audit --order 111"],
  ["unknown", none, /is not known/, null]
]

for (const [state, changes, says, command] of states) {
  it(`the order is ${state}: ${says.source}`, () => {
    const story = { ...complete, ...changes }
    const found = Conclusion.conclude(story)
    assert.strictEqual(found.state, state)
    assert.match(found.says, says)
    assert.strictEqual(found.command, command)
    const lines = Telling.text(story).split("\n")
    assert.deepStrictEqual(
      lines.slice(command === null ? -1 : -2),
      command === null ? [found.says] : [found.says, `  ${command}`]
    )
  })
}

it("the story as text: record, decision, payment, events with their records, what stands behind, operations and trace", () => {
  const story = {
    ...complete,
    events: [dead, behind],
    announced: [],
    operations: [{ ...skip, action: "outbox retry" as const }]
  }
  assert.strictEqual(
    Telling.text(story).split("\n\n")[0],
    `order      111
record     inventory/2@17  2026-01-02T03:04:05.000Z  COMPLETED, idempotent_key 00000000-0000-4000-8000-00000000000f: created the payment
payment    CREATED 2026-01-02T03:04:05.000Z, COMPLETED 2026-01-02T03:04:05.000Z, by idempotent_key 00000000-0000-4000-8000-00000000000f
event      4711  CREATED, written 2026-01-02T03:04:05.000Z: DEAD, attempts 10, last error MESSAGE_TOO_LARGE
           behind it: event 4712 (COMPLETED)
event      4712  COMPLETED, written 2026-01-02T03:04:05.000Z: waits behind an earlier event of the order, attempts 0
operation  2026-01-02T03:04:05.000Z  outbox retry event 4711 by ann@host: a test
trace      0af7651916cd43dd8448eb211c80319c`
  )
  assert.include(
    Telling.text(complete),
    `event      4712  COMPLETED, written 2026-01-02T03:04:05.000Z: DONE 2026-01-02T03:04:05.012Z, 12ms after it was written, attempts 0
           on the topic: payment/3@6  2026-01-02T03:04:05.000Z`
  )
  assert.include(
    Telling.text({ ...complete, payment: { ...payment, status: "FAILED", reason: "expired" } }),
    "FAILED 2026-01-02T03:04:05.000Z (expired), by"
  )
  assert.include(
    Telling.text({ ...complete, payment: { ...payment, settled_by: "orders" } }),
    "COMPLETED 2026-01-02T03:04:05.000Z, settled by orders, by idempotent_key"
  )
})
