import * as Letters from "../repair/Letter.js"
import type { AnnouncedFact, EventFact, Story } from "./Facts.js"

/** What an order waits for, and what to do. */
export interface Conclusion {
  /** A stable name of the state, for programs. */
  readonly state:
    | "complete"
    | "created"
    | "event-dead"
    | "event-due"
    | "event-leased"
    | "event-backing-off"
    | "event-skipped"
    | "not-on-topic"
    | "no-event"
    | "no-payment"
    | "dead-letter"
    | "unread"
    | "ignored"
    | "key-taken"
    | "lost-record"
    | "unknown"
    | "untold"
  /** Sentences for a person. */
  readonly says: string
  /** The command that goes on; null when there is nothing to do. */
  readonly command: string | null
}

const iso = (time: Date | null) => time?.toISOString() ?? "an unknown time"

/** The records of an event on its topic. */
export const recordsOf = (story: Story, event: EventFact): ReadonlyArray<AnnouncedFact> =>
  story.announced.filter(({ idempotent_key, says }) => idempotent_key === event.idempotent_key && says === event.says)

/** The last skip of an event that was not announced again since. */
export const skipOf = (story: Story, event: EventFact) => {
  const last = story.operations.find(({ event_id }) => event_id === event.id)
  return last?.action === "outbox skip" ? last : undefined
}

/** Events of the order that wait behind this one. */
export const behind = (story: Story, event: EventFact) =>
  story.events.slice(story.events.indexOf(event) + 1).filter(({ status }) => status !== "DONE")

const undone = (story: Story, event: EventFact): Conclusion => {
  const name = `event ${event.id} (${event.says ?? "unreadable"})`
  const waiting = behind(story, event).map(({ says }) => says).join(", ")
  const others = waiting === "" ? "" : `, and ${waiting} waits behind it`
  const error = event.last_error ?? "no error"
  switch (event.state) {
    case "dead":
      return {
        state: "event-dead",
        says:
          `The order waits for an operator: ${name} is dead after ${event.attempts} attempts (${error})${others}. ` +
          "Remove the cause, and then send it again; payments outbox skip gives it up.",
        command: `payments outbox retry --event ${event.id} --reason <why>`
      }
    case "backing-off":
      return {
        state: "event-backing-off",
        says: event.attempts === 0
          ? `${name} waits until ${
            iso(event.reserved_to)
          }${others}: the topic ${event.topic} did not exist, or a relay stopped.`
          : `The broker refused ${name} ${event.attempts} times (${error})${others}. It is sent again at ${
            iso(event.reserved_to)
          }. ` +
            "Remove the cause; retry sends it at once.",
        command: `payments outbox retry --event ${event.id} --reason <why>`
      }
    case "leased":
      return {
        state: "event-leased",
        says: event.batch === null
          ? `A relay has ${name} in hand until ${
            iso(event.reserved_to)
          }${others}. If that stays, the broker does not answer it: /readyz/relay has the reason.`
          : `An exactly-once relay has ${name} in batch ${event.batch} of shard ${event.shard}${others}. If that stays, look at the shard.`,
        command: event.batch === null ? null : "payments shards"
      }
    default:
      return {
        state: "event-due",
        says: `The order waits for a relay: ${name} is due since ${iso(event.created_at)}${others}. ` +
          "If that stays, no relay runs or it cannot publish: /readyz/relay has the reason.",
        command: "payments outbox list"
      }
  }
}

const withPayment = (story: Story, status: string): Conclusion => {
  const first = story.events.find((event) => event.status !== "DONE")
  if (first !== undefined) return undone(story, first)
  const order = story.orderId
  const skipped = story.events.find((event) => skipOf(story, event) !== undefined)
  if (skipped !== undefined) {
    const by = skipOf(story, skipped)!
    return {
      state: "event-skipped",
      says: `${by.operator} skipped event ${skipped.id} (${skipped.says}) at ${
        iso(by.at)
      }: the readers never learned of it.`,
      command: `payments outbox replay --event ${skipped.id} --reason <why>`
    }
  }
  const { problem, since, topic } = story.searched.payment
  const absent = story.events.find((event) => recordsOf(story, event).length === 0)
  if (absent !== undefined && problem !== undefined) {
    return {
      state: "untold",
      says:
        `The payment and its events are in order. Topic ${topic} cannot be read now, so its records are not known: ${problem}.`,
      command: `payments order ${order}`
    }
  }
  if (absent !== undefined) {
    const where = since === undefined ? "" : " about that time"
    return {
      state: "not-on-topic",
      says:
        `Event ${absent.id} (${absent.says}) was acknowledged at ${
          iso(absent.done_at)
        }, and is not on topic ${topic}${where}. ` +
        "Announce the order again.",
      command: `payments outbox replay --order ${order} --reason <why>`
    }
  }
  const expected = status === "CREATED" ? 1 : 2
  const told = new Set([...story.events.map(({ says }) => says), ...story.announced.map(({ says }) => says)])
  if (story.events.length < expected && !(told.has("CREATED") && told.has(status))) {
    const old = story.now.getTime() - story.payment!.updated_at.getTime() > story.retention
    return old
      ? {
        state: "untold",
        says: "Its events are older than OUTBOX_RETENTION, so their rows are deleted.",
        command: null
      }
      : {
        state: "no-event",
        says: `The payment is ${status}, and an event of it has no row: no command can make it again. Audit the order.`,
        command: `payments audit --order ${order}`
      }
  }
  return status === "CREATED"
    ? {
      state: "created",
      says: "The payment is announced. The order waits to be paid or refused.",
      command: `payments pay ${order}`
    }
    : {
      state: "complete",
      says: story.payment!.reason === "expired"
        ? "The payment expired: no call settled it within PAYMENT_EXPIRY. Both events are announced. There is nothing to do."
        : "The order is complete: both events are announced. There is nothing to do.",
      command: null
    }
}

const withoutPayment = (story: Story): Conclusion => {
  const order = story.orderId
  const letter = story.letters.filter(({ replays }) => replays.count === 0).at(-1)
  const [record] = story.records.slice(-1)
  const place = (at: { readonly topic: string; readonly partition: number; readonly offset: string }) =>
    `${at.topic}/${at.partition}@${at.offset}`
  if (story.events.length > 0) {
    return {
      state: "no-payment",
      says: `Event ${
        story.events[0]!.id
      } of the order exists, and its payment does not: a restore lost it, or it was deleted by hand.`,
      command: `payments audit --order ${order}`
    }
  }
  const lost = story.records.find(({ decision }) => decision === "read, and no payment")
  if (lost !== undefined) {
    return {
      state: "lost-record",
      says: `Record ${
        place(lost)
      } was read, and the payment is missing: a restored database, or a lost row. Write the record again.`,
      command: `payments reserve ${order} --key ${lost.idempotent_key} --status ${lost.status}`
    }
  }
  const unread = story.records.find(({ decision }) => decision === "not read yet")
  if (unread !== undefined) {
    return {
      state: "unread",
      says:
        `The order waits for the consumer: record ${place(unread)} is not read yet, and ${
          unread.before - 1
        } records come before it. ` +
        "If that stays, /readyz/consumer has the reason.",
      command: `payments order ${order}`
    }
  }
  if (letter !== undefined) {
    const at = Letters.show(letter.letter)
    return {
      state: "dead-letter",
      says:
        `The order has no payment: its record ${letter.letter.original} is a dead letter (${letter.letter.reason}). Mend and replay it.`,
      command: `payments dead-letters replay ${at} --edit --reason <why>`
    }
  }
  if (record?.decision === "no payment: its idempotent_key belongs to another order") {
    return {
      state: "key-taken",
      says: `The order has no payment: the idempotent_key of record ${place(record)} belongs to another order. ` +
        "If the order is real, reserve it with a new key.",
      command: `payments reserve ${order}`
    }
  }
  if (record !== undefined) {
    return {
      state: "ignored",
      says:
        `The order has no payment: its record ${place(record)} has status ${JSON.stringify(record.status)}, which ` +
        "INVENTORY_ACCEPT_STATUSES does not accept. The order waits for a record with an accepted status.",
      command: null
    }
  }
  const problems = [story.searched.inventory, story.searched.deadLetters].flatMap(({ problem }) => problem ?? [])
  const since = story.searched.inventory.since
  return problems.length > 0
    ? {
      state: "untold",
      says: `The order has no payment, and the topics cannot be read now: ${problems.join("; ")}.`,
      command: `payments order ${order}`
    }
    : {
      state: "unknown",
      says: `The order is not known: no payment, no inventory record${
        since === undefined ? "" : ` since ${iso(since)}`
      } and no dead letter names it. The service that reserves stock has not written it to topic ${story.searched.inventory.topic}.`,
      command: null
    }
}

/** Concludes what an order waits for, from its facts. */
export const conclude = (story: Story): Conclusion =>
  story.payment === undefined ? withoutPayment(story) : withPayment(story, story.payment.status)
