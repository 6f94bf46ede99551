#!/usr/bin/env node
import { CliConfig, Command } from "@effect/cli"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Console, Effect, Exit, Layer, Logger, Option } from "effect"
import { readFileSync } from "node:fs"
import { constants } from "node:os"
import * as Audit from "./cli/Audit.js"
import * as Drills from "./cli/Drills.js"
import * as Failure from "./cli/Failure.js"
import * as Help from "./cli/Help.js"
import * as Local from "./cli/Local.js"
import * as Operate from "./cli/Operate.js"
import * as Paths from "./cli/Paths.js"
import * as Saga from "./cli/Saga.js"
import * as Shards from "./cli/Shards.js"
import * as Start from "./cli/Start.js"
import * as NameLookups from "./infra/grpc/NameLookups.js"
import * as StandardStreams from "./infra/runtime/StandardStreams.js"
import * as Tuning from "./infra/runtime/tuning/Tuning.js"

NameLookups.bounded()
StandardStreams.prepare()

const args = process.argv.slice(2)

const commands = [
  ...Operate.commands,
  Start.command,
  Local.command,
  ...Saga.commands,
  Audit.command,
  Drills.command,
  Shards.command
] as const

const payments = Command.make("payments").pipe(
  Command.withDescription("Payments, a participant in an order saga"),
  Command.withSubcommands([...commands])
)

const { version } = JSON.parse(readFileSync(Paths.packageJson, "utf8")) as { readonly version: string }

const parsed = Command.run(payments, { name: "payments", version })

/** The library's own help has escapes and filler in it, and its line of the usage lacks the program's name. */
const cli = Effect.suspend(() =>
  Option.match(Help.wish(payments, commands, args), {
    onNone: () => parsed(process.argv),
    onSome: (wish) =>
      wish._tag === "Unknown"
        ? new Failure.UsageError({ problem: wish.problem })
        : Console.log(wish._tag === "Help" ? wish.text : version)
  })
)

/** Results go to standard output, the log to standard error: lines of JSON, or for a person at a terminal. */
const logger = Logger.replace(
  Logger.defaultLogger,
  process.stderr.isTTY
    ? Logger.prettyLogger({ stderr: true })
    : Logger.map(Logger.jsonLogger, StandardStreams.log)
)

/** A failure is one line for whoever started us; a bug is told whole, in the log. */
const report = (cause: Cause.Cause<unknown>) =>
  Option.match(Failure.of(cause), {
    onNone: () => Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logFatal("bug", cause),
    onSome: (failure) => StandardStreams.tell(Failure.text(failure, args.includes("--json")))
  })

/** Runs until a signal tells it to end: that is its regular end. */
const runsUntilStopped = /^(serve|start|watch|local up)\b/.test(args.join(" "))

/** The signal that stopped us. */
let stopped: "SIGINT" | "SIGTERM" | "SIGHUP" | undefined
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => (stopped ??= signal))
}
// a terminal that is closed stops us as well; a second signal ends the process at once
process.once("SIGHUP", () => process.emit("SIGTERM"))

const exitCode = Exit.match({
  onSuccess: () => 0,
  onFailure: (cause: Cause.Cause<unknown>) =>
    Cause.isInterruptedOnly(cause)
      ? runsUntilStopped || stopped === undefined ? 0 : 128 + constants.signals[stopped]
      : Option.match(Failure.of(cause), { onNone: () => 1, onSome: Failure.exitCode })
})

cli.pipe(
  Effect.tapErrorCause(report),
  StandardStreams.withConsole,
  Tuning.run,
  Effect.provide(Layer.mergeAll(NodeContext.layer, CliConfig.layer({ showBuiltIns: false }), logger)),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    disablePrettyLogger: true,
    teardown: (exit, onExit) => onExit(exitCode(exit))
  })
)
