import { Context, Effect } from "effect"

/** A moment at which a crash does the most harm, and what comes of it. */
export interface CrashPoint {
  /** Where the process is. */
  readonly moment: string
  /** What it leaves behind. */
  readonly leaves: string
  /** Who goes on from there. */
  readonly mendedBy: string
}

/** The worst moments of each part. A drill kills the process at one of them. */
export const crashPoints = {
  "consumer-decoded": {
    moment: "a batch was decoded, nothing is written",
    leaves: "the batch before its committed offset",
    mendedBy: "whoever gets the partition reads the batch again"
  },
  "consumer-committed": {
    moment: "payments and events are committed, Redis does not know",
    leaves: "payments, and their records before the committed offset",
    mendedBy: "the records are read again, and the unique keys in PostgreSQL know them"
  },
  "consumer-remembered": {
    moment: "Redis was told",
    leaves: "payments and keys, and their records before the committed offset",
    mendedBy: "the records are read again, and Redis knows them"
  },
  "consumer-dead-lettered": {
    moment: "the dead letters of a batch are on their topic",
    leaves: "dead letters, and their records before the committed offset",
    mendedBy:
      "the records are read again: their dead letters are written a second time, with the same place in the headers"
  },
  "consumer-taken": {
    moment: "a batch is done with, its offset has not moved",
    leaves: "everything but the offset",
    mendedBy: "the records are read again, and Redis knows them"
  },
  "relay-claimed": {
    moment: "events are leased, nothing is sent",
    leaves: "leased events",
    mendedBy: "any relay, when the lease has run out"
  },
  "relay-sent": {
    moment: "the broker has acknowledged, the events are not marked",
    leaves: "events on the topic that are leased and WAIT",
    mendedBy: "any relay, when the lease has run out: it sends them again with the same key, body and idempotent_key"
  },
  "relay-batch-sent": {
    moment: "exactly once: a batch and its number are with the broker, nothing is committed there",
    leaves: "an open transaction, and a batch that the database knows",
    mendedBy:
      "the next owner of the shard: its fence aborts the transaction, and the events are sent under a new number"
  },
  "relay-batch-committed": {
    moment: "exactly once: the broker has committed a batch with its number, the events are not marked",
    leaves: "events on the topic that are WAIT, and the number of their batch at the broker",
    mendedBy: "the next owner of the shard: the number tells it that they are DONE, and nothing is sent again"
  },
  "relay-marked": {
    moment: "events are marked DONE",
    leaves: "nothing of this claim",
    mendedBy: "nobody has to"
  },
  "relay-renewing": {
    moment: "a lease is about to be renewed, while its events are on their way",
    leaves: "leased events, on the topic or not",
    mendedBy: "any relay, when the lease has run out: what was on the topic is sent again"
  },
  "relay-stopping": {
    moment: "a stop has begun, the claim in hand is not finished",
    leaves: "leased events, on the topic or not",
    mendedBy: "any relay, when the lease has run out: what was on the topic is sent again"
  },
  "grpc-committed": {
    moment: "a settlement is committed, the client has no answer",
    leaves: "a settled payment and its event, and a client that does not know",
    mendedBy: "the client asks again: the same outcome is OK, and writes no second event"
  },
  "migration-half-way": {
    moment: "some of the pending migrations have run, in a transaction that is open",
    leaves: "nothing: the transaction is rolled back, and its lock is gone with the connection",
    mendedBy: "the next start migrates from the beginning"
  }
} as const satisfies Record<string, CrashPoint>

export type CrashPointName = keyof typeof crashPoints

/** What happens to a process that passes a crash point. By default nothing, and it costs nothing. */
export class Drill extends Context.Reference<Drill>()("payments/Drill", {
  defaultValue: (): { readonly pass: (point: CrashPointName) => Effect.Effect<void> } => ({ pass: () => Effect.void })
}) {}

/** The process is at a crash point. */
export const pass = (point: CrashPointName): Effect.Effect<void> =>
  Effect.withFiberRuntime((fiber) => Context.get(fiber.currentContext, Drill).pass(point))
