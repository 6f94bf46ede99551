import { Command, Options } from "@effect/cli"
import { Clock, Duration, Effect, Either, Option, Schema } from "effect"
import * as Report from "../audit/Report.js"
import * as Audit from "../audit/Run.js"
import type { ConfigOf } from "../Config.js"
import * as Migrations from "../infra/postgres/Migrations.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Parse } from "../infra/runtime/Setting.js"
import { duration, integer } from "../infra/runtime/Setting.js"
import { option } from "./Flags.js"
import { json, print, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import { kafkaOptions } from "./Services.js"

/** The audit finished and found broken promises. */
export class AuditNotClean extends Schema.TaggedError<AuditNotClean>()("AuditNotClean", { wrong: Schema.String }) {
  override get message() {
    return `the audit is not clean: ${this.wrong}`
  }
}

/** The database has pending migrations, which the audit does not apply. */
export class NotMigrated extends Schema.TaggedError<NotMigrated>()("NotMigrated", { names: Schema.String }) {
  override get message() {
    return `the database is not migrated (run payments migrate): ${this.names}`
  }
}

/** Parses a time, or a duration before now. Returns milliseconds of the epoch. */
const parseSince: Parse<(now: number) => number> = (text) => {
  const time = Date.parse(text)
  return /^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(time)
    ? Either.right(() => time)
    : Either.mapBoth(duration("1 millis")(text), {
      onLeft: () => "is neither a duration (24h) nor a time (2024-12-31T08:00:00Z)",
      onRight: (ago) => (now: number) => now - Duration.toMillis(ago)
    })
}

const since = option("since", parseSince, "time").pipe(
  Options.withDescription("Skip older records: a duration (24h) or a time (2024-12-31T08:00:00Z)"),
  Options.optional
)

const wait = option("wait", duration("1 millis"), "duration").pipe(
  Options.withDescription(
    "First wait up to this long until everything is consumed and published; what is unfinished then is a fault"
  ),
  Options.optional
)

const used = [
  "databaseUrl",
  "kafkaBrokers",
  "kafkaClientId",
  "kafkaGroupId",
  "inventoryTopic",
  "inventoryDlqTopic",
  "paymentTopic",
  "inventoryAcceptStatuses",
  "outboxRetention"
] as const

const width = 30

/** A progress bar on standard error when that is a terminal. */
const progressBar = Effect.map(Effect.clock, (clock) => {
  let drawn = 0
  const write = (text: string) => Effect.sync(() => void process.stderr.write(text))
  return process.stderr.isTTY
    ? {
      draw: (done: number, total: number) =>
        Effect.suspend(() => {
          const now = clock.unsafeCurrentTimeMillis()
          if (now - drawn < 100) return Effect.void
          drawn = now
          const part = Math.min(1, done / Math.max(1, total))
          const filled = Math.round(part * width)
          const bar = "#".repeat(filled) + "-".repeat(width - filled)
          return write(`\r[${bar}] ${String(Math.floor(part * 100)).padStart(3)} %  ${done} of ${total}`)
        }),
      clear: write("\r\u001b[K")
    }
    : { draw: () => Effect.void, clear: Effect.void }
})

const audit = Effect.fn("cli.audit")(function*(config: ConfigOf<(typeof used)[number]>, flags: {
  readonly since: Option.Option<(now: number) => number>
  readonly wait: Option.Option<Duration.Duration>
  readonly noResends: boolean
  readonly examples: number
  readonly json: boolean
}) {
  const pending = yield* Migrations.pending(Prepare.migrations)
  if (pending.length > 0) return yield* new NotMigrated({ names: pending.map(([, name]) => name).join(", ") })
  const now = yield* Clock.currentTimeMillis
  const bar = yield* progressBar
  const audited = yield* Audit.run({
    kafka: kafkaOptions(config),
    groupId: config.kafkaGroupId,
    inventoryTopic: config.inventoryTopic,
    dlqTopic: config.inventoryDlqTopic,
    paymentTopic: config.paymentTopic,
    acceptStatuses: config.inventoryAcceptStatuses,
    retention: config.outboxRetention,
    since: Option.map(flags.since, (since) => since(now)),
    wait: flags.wait,
    examples: flags.examples,
    onProgress: bar.draw
  }).pipe(Effect.ensuring(bar.clear))

  const strictness = { noResends: flags.noResends, waited: Option.isSome(flags.wait) }
  const names = { inventory: config.inventoryTopic, payment: config.paymentTopic }
  if (flags.json) {
    yield* Effect.forEach(Report.documents(audited, strictness, names), (document) => print(true, document, ""), {
      discard: true
    })
  } else yield* print(false, {}, Report.text(audited, strictness, names))
  const wrong = Report.verdict(audited, strictness)
  if (wrong !== undefined) return yield* new AuditNotClean({ wrong })
})

/** Checks the promises on the database and the topics. Exit code 0: all kept. 1: some broken. 5: a server did not answer. */
export const command = Command.make(
  "audit",
  {
    since,
    wait,
    noResends: Options.boolean("no-resends").pipe(
      Options.withAlias("exactly-once"),
      Options.withDescription("Count a resend as a fault, as OUTBOX_DELIVERY=exactly-once promises none")
    ),
    examples: option("examples", integer(0, 1_000_000), "number").pipe(
      Options.withDefault(20),
      Options.withDescription("Number of findings shown of each kind; 20 by default")
    ),
    json
  },
  (flags) =>
    withSettings(
      used,
      (config) => Effect.provide(audit(config, flags), Postgres.layer({ url: config.databaseUrl, maxConnections: 2 }))
    )
).pipe(
  Command.withDescription("Check the database and both topics for anything lost, doubled or out of order")
)
