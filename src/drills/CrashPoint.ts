import { Context, Effect } from "effect"

/** A moment at which a crash does the most harm. */
export interface CrashPoint {
  /** What the process has done so far. */
  readonly moment: string
  /** What a crash leaves behind. */
  readonly leaves: string
  /** How the service recovers from it. */
  readonly recovery: string
}

/** The worst moments of each part. A drill kills the process at one of them. */
export const crashPoints = {
  "consumer-decoded": {
    moment: "the consumer has decoded a batch and written nothing",
    leaves: "the batch, after its committed offset",
    recovery: "the next consumer of the partition reads the batch again"
  },
  "consumer-committed": {
    moment: "payments and events are committed, Redis has no keys of them",
    leaves: "payments, and their records after the committed offset",
    recovery: "the next consumer reads the records again, and the unique keys in PostgreSQL refuse them"
  },
  "consumer-remembered": {
    moment: "payments and events are committed, and Redis has their keys",
    leaves: "payments and keys, and their records after the committed offset",
    recovery: "the next consumer reads the records again, and finds their keys in Redis"
  },
  "consumer-dead-lettered": {
    moment: "the dead letters of a batch are on their topic",
    leaves: "dead letters, and their records after the committed offset",
    recovery:
      "the next consumer reads the records again and writes their dead letters a second time, with the same partition and offset in the headers"
  },
  "consumer-taken": {
    moment: "all records of a batch are handled, its offset is not committed",
    leaves: "everything but the offset",
    recovery: "the next consumer reads the records again, and finds their keys in Redis"
  },
  "relay-claimed": {
    moment: "events are leased and not sent",
    leaves: "leased events",
    recovery: "any relay claims them when the lease has ended"
  },
  "relay-sent": {
    moment: "the broker has acknowledged events that are not marked",
    leaves: "leased events in WAIT that are on the topic",
    recovery:
      "any relay claims them when the lease has ended, and sends them again with the same key, body and idempotent_key"
  },
  "relay-batch-sent": {
    moment: "exactly once: the broker has a batch and its number in an open transaction",
    leaves: "an open transaction, and a leased batch in the database",
    recovery:
      "the next owner of the shard fences the producer, which aborts the transaction, and sends the events under a new number"
  },
  "relay-batch-committed": {
    moment: "exactly once: the broker has committed a batch with its number, the events are not marked",
    leaves: "events in WAIT that are on the topic, and the number of their batch at the broker",
    recovery: "the next owner of the shard reads the number and marks the events DONE, without a resend"
  },
  "relay-marked": {
    moment: "events are marked DONE",
    leaves: "nothing of this claim",
    recovery: "not needed"
  },
  "relay-renewing": {
    moment: "the relay is about to renew a lease while its events are on their way",
    leaves: "leased events, on the topic or not",
    recovery: "any relay claims them when the lease has ended; events that were on the topic are sent again"
  },
  "relay-stopping": {
    moment: "a stop has begun, the claim in hand is not finished",
    leaves: "leased events, on the topic or not",
    recovery: "any relay claims them when the lease has ended; events that were on the topic are sent again"
  },
  "grpc-committed": {
    moment: "a settlement is committed, the client has no answer",
    leaves: "a settled payment and its event, and a client without an answer",
    recovery: "the client calls again: the same status answers OK and writes no second event"
  },
  "migration-half-way": {
    moment: "some of the pending migrations have run in an open transaction",
    leaves: "nothing: the server rolls the transaction back and releases its lock when the connection ends",
    recovery: "the next start migrates from the beginning"
  }
} as const satisfies Record<string, CrashPoint>

export type CrashPointName = keyof typeof crashPoints

/** Runs when the process passes a crash point. Does nothing by default, and costs nothing. */
export class Drill extends Context.Reference<Drill>()("payments/Drill", {
  defaultValue: (): { readonly pass: (point: CrashPointName) => Effect.Effect<void> } => ({ pass: () => Effect.void })
}) {}

/** The process is at a crash point. */
export const pass = (point: CrashPointName): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => Context.get(fiber.currentContext, Drill).pass(point))
