#!/usr/bin/env node
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Effect, Exit, Layer, Logger, Option } from "effect"
import { constants } from "node:os"
import * as Failure from "./cli/Failure.js"
import * as Program from "./cli/Program.js"
import * as NameLookups from "./infra/grpc/NameLookups.js"
import * as LogLine from "./infra/runtime/LogLine.js"
import * as StandardStreams from "./infra/runtime/StandardStreams.js"
import * as Tuning from "./infra/runtime/tuning/Tuning.js"

NameLookups.bounded()
StandardStreams.prepare()

const args = process.argv.slice(2)

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
      : Failure.exitCodeOf(cause)
})

Program.run(args).pipe(
  Effect.tapErrorCause(report),
  StandardStreams.withConsole,
  Tuning.run,
  Effect.provide(Layer.merge(NodeContext.layer, logger)),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    disablePrettyLogger: true,
    teardown: (exit, onExit) => onExit(exitCode(exit))
  })
)
