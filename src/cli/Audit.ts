import { Command, Options } from "@effect/cli"
import type { Duration } from "effect"
import { Clock, Effect, Option, Schema } from "effect"
import * as Report from "../audit/Report.js"
import * as Audit from "../audit/Run.js"
import type { ConfigOf } from "../Config.js"
import { duration, integer } from "../infra/runtime/Setting.js"
import * as Database from "./Database.js"
import { option, orderNumber, time } from "./Flags.js"
import { json, print, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import { progressBar } from "./ProgressBar.js"
import { sources, used } from "./Sources.js"

/** The audit finished and found broken promises. */
export class AuditNotClean extends Schema.TaggedError<AuditNotClean>()("AuditNotClean", { wrong: Schema.String }) {
  override get message() {
    return `the audit is not clean: ${this.wrong}`
  }
}

const wait = option("wait", duration("1 millis"), "duration").pipe(
  Options.withDescription(
    "First wait up to this long until everything is consumed and published; what is unfinished then is a fault"
  ),
  Options.optional
)

/** Runs the audit with the settings of the environment, and shows its progress. */
export const audited = (options: {
  /** Milliseconds of the epoch. */
  readonly since: number | undefined
  readonly wait?: Duration.Duration
  readonly order: bigint | undefined
  readonly examples: number
}) =>
  withSettings(used, (config) =>
    Effect.gen(function*() {
      yield* Prepare.migrated
      const bar = yield* progressBar
      return yield* Audit.run({
        ...sources(config),
        since: Option.fromNullable(options.since),
        wait: Option.fromNullable(options.wait),
        order: options.order,
        examples: options.examples,
        onProgress: bar.draw
      }).pipe(Effect.ensuring(bar.clear))
    }).pipe(Effect.provide(Database.layer(config, 2))))

const audit = Effect.fn("cli.audit")(function*(config: ConfigOf<"inventoryTopic" | "paymentTopic">, flags: {
  readonly since: Option.Option<(now: number) => number>
  readonly wait: Option.Option<Duration.Duration>
  readonly order: Option.Option<bigint>
  readonly noResends: boolean
  readonly examples: number
  readonly json: boolean
}) {
  const now = yield* Clock.currentTimeMillis
  const found = yield* audited({
    since: Option.getOrUndefined(Option.map(flags.since, (since) => since(now))),
    ...(Option.isSome(flags.wait) ? { wait: flags.wait.value } : {}),
    order: Option.getOrUndefined(flags.order),
    examples: flags.examples
  })
  const strictness = { noResends: flags.noResends, waited: Option.isSome(flags.wait) }
  const names = { inventory: config.inventoryTopic, payment: config.paymentTopic }
  if (flags.json) {
    yield* Effect.forEach(Report.documents(found, strictness, names), (document) => print(true, document, ""), {
      discard: true
    })
  } else yield* print(false, {}, Report.text(found, strictness, names))
  const wrong = Report.verdict(found, strictness)
  if (wrong !== undefined) return yield* new AuditNotClean({ wrong })
})

/** Checks the promises on the database and the topics. Exit code 0: all kept. 1: some broken. 5: a server did not answer. */
export const command = Command.make(
  "audit",
  {
    since: time("since", "Skip older records"),
    wait,
    order: option("order", orderNumber, "order_id").pipe(
      Options.withDescription("Audit this order alone"),
      Options.optional
    ),
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
  (flags) => withSettings(["inventoryTopic", "paymentTopic"], (config) => audit(config, flags))
).pipe(
  Command.withDescription("Check the database and both topics for anything lost, doubled or out of order")
)
