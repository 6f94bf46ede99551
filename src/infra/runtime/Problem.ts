/**
 * Reasons for which work makes no progress, with the words of the log. A closed set: it is a label of `payments_stalled`.
 */
export const reasons = {
  /** The database does not answer, is read-only, or refuses the service. */
  postgres: "waiting for postgres",
  /** The brokers do not answer. */
  kafka: "waiting for kafka",
  redis: "working without redis",
  /** The issuer of tokens does not give the keys that verify them. */
  issuer: "waiting for the keys of the issuer",
  /** A topic does not exist. */
  topic: "waiting for a topic",
  /** A broker denies a request. */
  permission: "waiting for a permission",
  dead_letter_topic: "waiting for the dead-letter topic",
  /** The consumer is not a member of its group. */
  group: "waiting for the consumer group",
  transaction: "waiting for an open transaction upstream",
  /** Only a person can decide how to go on. */
  operator: "waiting for an operator",
  migrations: "waiting for migrations",
  /** A bug has ended the service. */
  restart: "waiting for a restart",
  /** Work stands still, and no error says why. */
  no_progress: "making no progress"
} as const

export type Reason = keyof typeof reasons

/** Why work makes no progress. Operators read `why`: the word of the server, without secrets and payloads. */
export interface Problem {
  readonly reason: Reason
  readonly why: string
}

/** An error that says what its caller waits for. */
interface Waits {
  readonly waitsFor: Reason
}

const says = (error: object): error is Waits => "waitsFor" in error

/** The problem behind a failed attempt. Errors that know their reason have `waitsFor`; others get `reason`. */
export const problemOf = (error: { readonly message: string }, reason: Reason): Problem => ({
  reason: says(error) ? error.waitsFor : reason,
  why: error.message
})
