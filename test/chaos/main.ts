import { CliConfig, Command, Options, ValidationError } from "@effect/cli"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Console, Duration, Effect, Exit, Layer, Option } from "effect"
import type { Kind } from "./Faults.js"
import { faults } from "./Faults.js"
import * as GroundOf from "./Ground.js"
import * as Run from "./Run.js"

const upTo = (most: number) => (value: number) => value > 0 && value <= most ? Option.some(value) : Option.none()

const minutes = Options.float("minutes").pipe(
  Options.filterMap(upTo(24 * 60), "--minutes is a number above 0, at most 1440"),
  Options.withDescription("How long faults are mixed in; recovery and audit come after that. Default: 3"),
  Options.withDefault(3)
)
const seed = Options.integer("seed").pipe(
  Options.withDescription("The same seed is the same sequence of faults. Default: 1"),
  Options.withDefault(1)
)
const instances = Options.integer("instances").pipe(
  Options.filterMap(upTo(8), "--instances is 1 to 8"),
  Options.withDescription("How many processes run the services. Default: 2"),
  Options.withDefault(2)
)
const rate = Options.integer("rate").pipe(
  Options.filterMap(upTo(1_000), "--rate is 1 to 1000"),
  Options.withDescription("Orders that begin in a second, at the most. Default: 100"),
  Options.withDefault(100)
)
const recovery = Options.integer("recovery").pipe(
  Options.filterMap(upTo(600), "--recovery is 1 to 600"),
  Options.withDescription("Seconds that the system may take to work again after a fault. Default: 60"),
  Options.withDefault(60)
)

const delivery = Options.choice("delivery", GroundOf.deliveries).pipe(
  Options.withDescription("OUTBOX_DELIVERY of the instances; exactly-once allows no resend. Default: at-least-once"),
  Options.withDefault("at-least-once" as const)
)

const tls = Options.boolean("tls").pipe(
  Options.withDescription("Encrypt every connection; Kafka takes a password and a client certificate, gRPC a token")
)

const kinds = Object.keys(faults) as Array<Kind>
const only = Options.text("only").pipe(
  Options.filterMap(
    (text) => {
      const names = text.split(",")
      const begins = (kind: Kind, name: string) => name !== "" && kind.startsWith(name)
      return names.every((name) => kinds.some((kind) => begins(kind, name)))
        ? Option.some(kinds.filter((kind) => names.some((name) => begins(kind, name))))
        : Option.none()
    },
    `--only names kinds, or how they begin, comma-separated: ${kinds.join(" · ")}`
  ),
  Options.withDescription(
    "Only faults that begin with one of these, comma-separated: \"network: kafka,broker\". Default: all"
  ),
  Options.withDefault(kinds)
)

const chaos = Command.make(
  "chaos",
  { minutes, seed, instances, rate, recovery, delivery, tls, only },
  (options) =>
    Run.run({
      minutes: options.minutes,
      seed: options.seed,
      kinds: options.only,
      instances: options.instances,
      ordersPerSecond: options.rate,
      delivery: options.delivery,
      tls: options.tls,
      recovery: Duration.seconds(options.recovery)
    }).pipe(
      // whatever hangs, it ends by itself: start, the last fault, its recovery, the drain and the audit
      Effect.timeoutFail({
        duration: Duration.minutes(options.minutes + 5 + options.recovery / 60),
        onTimeout: () => new Run.NotClean({ wrong: ["the run did not end in time"] })
      })
    )
).pipe(Command.withDescription("Break servers, network and services at random under load, and audit what is left"))

const report = (cause: Cause.Cause<unknown>) => {
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  if (Cause.isInterruptedOnly(cause) || ValidationError.isValidationError(failure)) return Effect.void
  return Console.error(failure instanceof Error ? `chaos: ${failure.message}` : Cause.pretty(cause))
}

/** 0: clean. 1: not clean. 2: a bad option. 130: interrupted. */
const codeOf = (cause: Cause.Cause<unknown>) => {
  if (Cause.isInterruptedOnly(cause)) return 130
  return ValidationError.isValidationError(Option.getOrUndefined(Cause.failureOption(cause))) ? 2 : 1
}

Effect.suspend(() => Command.run(chaos, { name: "npm run chaos --", version: "" })(process.argv)).pipe(
  Effect.tapErrorCause(report),
  Effect.provide(Layer.merge(NodeContext.layer, CliConfig.layer({ showBuiltIns: false }))),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.match(exit, { onSuccess: () => 0, onFailure: codeOf }))
  })
)
