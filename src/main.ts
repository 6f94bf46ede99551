#!/usr/bin/env node
import { CliConfig, Command } from "@effect/cli"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Console, Effect, Exit, Layer, Logger, Option } from "effect"
import { readFileSync } from "node:fs"
import { constants } from "node:os"
import * as Audit from "./cli/Audit.js"
import * as DeadLetters from "./cli/DeadLetters.js"
import * as Doctor from "./cli/Doctor.js"
import * as Drills from "./cli/Drills.js"
import * as Failure from "./cli/Failure.js"
import * as Help from "./cli/Help.js"
import * as Local from "./cli/Local.js"
import * as Operate from "./cli/Operate.js"
import * as Operations from "./cli/Operations.js"
import * as Order from "./cli/Order.js"
import * as Outbox from "./cli/Outbox.js"
import * as Paths from "./cli/Paths.js"
import * as Recover from "./cli/Recover.js"
import * as Saga from "./cli/Saga.js"
import * as Shards from "./cli/Shards.js"
import * as Start from "./cli/Start.js"
import * as Token from "./cli/Token.js"
import * as NameLookups from "./infra/grpc/NameLookups.js"
import * as LogLine from "./infra/runtime/LogLine.js"
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
  Order.command,
  Outbox.command,
  DeadLetters.command,
  Operations.command,
  Recover.command,
  Token.command,
  Audit.command,
  Doctor.command,
  Drills.command,
  Shards.command
] as const

const payments = Command.make("payments").pipe(
  Command.withDescription("Payments, a participant in an order saga"),
  Command.withSubcommands([...commands])
)

const { version } = JSON.parse(readFileSync(Paths.packageJson, "utf8")) as { readonly version: string }

const parsed = Command.run(payments, { name: "payments", version })

/** Answers help itself: the library's help has escapes and filler, and its usage line lacks the program's name. */
const cli = Effect.suspend(() =>
  Option.match(Help.wish(payments, commands, args), {
    onNone: () => parsed(process.argv),
    onSome: (wish) =>
      wish._tag === "Unknown"
        ? new Failure.UsageError({ problem: wish.problem })
        : Console.log(wish._tag === "Help" ? wish.text : version)
  })
)

/** The log goes to standard error: pretty at a terminal, otherwise lines of JSON. Results go to standard output. */
const logger = Logger.replace(
  Logger.defaultLogger,
  process.stderr.isTTY
    ? Logger.prettyLogger({ stderr: true })
    : Logger.map(LogLine.json, StandardStreams.log)
)

/** Prints a failure as one line. Logs a bug with its whole cause. */
const report = (cause: Cause.Cause<unknown>) =>
  Option.match(Failure.of(cause), {
    onNone: () => Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logFatal("bug", cause),
    onSome: (failure) => StandardStreams.tell(Failure.text(failure, args.includes("--json")))
  })

/** True for a command whose regular end is a signal. */
const runsUntilStopped = /^(serve|start|watch|local up)\b/.test(args.join(" "))

/** The first signal that this process received. */
let stopped: "SIGINT" | "SIGTERM" | "SIGHUP" | undefined
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => (stopped ??= signal))
}
// a closed terminal also stops the process; a second signal ends it at once
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
