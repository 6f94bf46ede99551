import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "@effect/platform"
import { Schema } from "effect"
import { Admin } from "./Access.js"
import { events } from "./Fields.js"
import { TooMany } from "./Refusals.js"

const perSecond = Schema.NullOr(Schema.Number)
const count = Schema.NullOr(Schema.Int)

/** The flow at one moment. Null: not known then. Rates are averages since the sample before. */
export const Sample = Schema.Struct({
  at: Schema.Date,
  /** Inventory records that the group has processed, a second. */
  consumed: perSecond,
  /** Payments created, a second. */
  payments: perSecond,
  /** Payments settled (paid, refused or expired), a second. */
  settled: perSecond,
  /** Events that left the outbox, a second. */
  published: perSecond,
  /** Inventory records that the group has not processed: the sum of the partitions. */
  lag: count,
  waiting: count,
  oldest_seconds: Schema.NullOr(Schema.Number),
  dead: count,
  dead_letters: count
}).annotations({ identifier: "Sample" })
export type Sample = typeof Sample.Type

/** A part or dependency of a process, as `/readyz` shows it. */
export const PartState = Schema.Struct({
  name: Schema.String,
  ok: Schema.Boolean,
  required: Schema.Boolean,
  state: Schema.Literal("starting", "working", "waiting", "stopped"),
  waiting_for: Schema.NullOr(Schema.String),
  reason: Schema.NullOr(Schema.String),
  since: Schema.Date,
  runbook: Schema.NullOr(Schema.String)
}).annotations({ identifier: "PartState" })

/** Something that stands still, the most urgent first. */
export const Standing = Schema.Struct({
  /** A part (`part`) or a stage of the flow. */
  where: Schema.Literal("inventory", "consumer", "outbox", "relay", "dead-letters", "part"),
  part: Schema.NullOr(Schema.String),
  urgent: Schema.Boolean,
  says: Schema.String,
  since: Schema.NullOr(Schema.Date),
  /** A section of docs/runbook.md. */
  runbook: Schema.NullOr(Schema.String)
}).annotations({ identifier: "Standing" })

export const Saga = Schema.Struct({
  /** Of this process: parts that run elsewhere are not among them. */
  parts: Schema.Array(PartState),
  standing: Schema.Array(Standing),
  now: Sample,
  lag: Schema.Array(Schema.Struct({
    partition: Schema.Int,
    end: Schema.String,
    committed: Schema.String,
    lag: Schema.String
  })),
  every_seconds: Schema.Int
}).annotations({ identifier: "Saga" })
export type Saga = typeof Saga.Type

export const SagaWithHistory = Schema.Struct({
  ...Saga.fields,
  /** Up to 15 minutes, oldest first. */
  history: Schema.Array(Sample)
}).annotations({ identifier: "SagaWithHistory" })

export const group = HttpApiGroup.make("saga")
  .add(
    HttpApiEndpoint.get("saga", "/api/saga").addSuccess(SagaWithHistory).annotate(
      OpenApi.Summary,
      "The flow now and over the last 15 minutes: parts, rates, lag, outbox, dead letters, and what stands still"
    )
  )
  .add(
    HttpApiEndpoint.get("sagaLive", "/api/saga/live").addSuccess(events).addError(TooMany).annotate(
      OpenApi.Summary,
      "Server-sent events: `saga` with the state of the flow after each sample, `end` before the server closes the stream"
    )
  )
  .middleware(Admin)
