import type { Reason } from "../../infra/runtime/Problem.js"

/** Sections of docs/runbook.md for stages of the flow that stand still, as the alerts name them. */
export const sections = {
  dead: "events-are-dead",
  waiting: "events-wait-to-be-published",
  behind: "the-consumer-is-behind",
  still: "the-consumer-processes-nothing",
  letters: "there-are-dead-letters"
} as const

const byReason: Readonly<Record<Reason, string | null>> = {
  postgres: "the-database-is-away",
  kafka: "the-brokers-are-away",
  redis: "redis-is-away",
  issuer: "the-issuer-of-tokens-is-away",
  topic: "a-topic-does-not-exist",
  permission: "the-brokers-deny-a-permission",
  dead_letter_topic: "the-dead-letter-topic-refuses-records",
  group: "the-consumer-is-not-in-its-group",
  transaction: "an-open-transaction-holds-back-records",
  operator: "a-service-restarts-again-and-again",
  migrations: "migrations-are-pending",
  restart: "a-service-restarts-again-and-again",
  no_progress: "work-stands-still"
}

/** The section for a part that waits for this reason. */
export const sectionOf = (part: string, reason: Reason | undefined): string | null =>
  reason === undefined
    ? null
    : part === "outbox-relay" && reason === "operator"
    ? "a-shard-cannot-publish"
    : byReason[reason]

/** All sections, for the test that they exist. */
export const all = [...new Set([...Object.values(sections), ...Object.values(byReason), "a-shard-cannot-publish"])]
