#!/usr/bin/env node
import { CliConfig, Command, ValidationError } from "@effect/cli"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Effect, Exit, Layer, Logger, LogLevel, Option, RuntimeFlags, RuntimeFlagsPatch } from "effect"
import { readFileSync } from "node:fs"
import * as Audit from "./cli/Audit.js"
import * as Drills from "./cli/Drills.js"
import * as Local from "./cli/Local.js"
import * as Operate from "./cli/Operate.js"
import { exitCodes } from "./cli/Output.js"
import * as Paths from "./cli/Paths.js"
import * as Saga from "./cli/Saga.js"
import * as Shards from "./cli/Shards.js"
import * as Start from "./cli/Start.js"
import { AppConfig } from "./Config.js"
import * as Garbage from "./infra/Garbage.js"

Garbage.staysYoung()

const logLevel = Layer.unwrapEffect(
  Effect.map(AppConfig, (config) => Logger.minimumLogLevel(LogLevel.fromLiteral(config.logLevel)))
)

const payments = Command.make("payments").pipe(
  Command.withDescription("Payments, a participant in an order saga"),
  Command.withSubcommands([
    ...Operate.commands,
    Start.command,
    Local.command,
    ...Saga.commands,
    Audit.command,
    Drills.command,
    Shards.command
  ]),
  Command.provide(Layer.provideMerge(logLevel, AppConfig.layer))
)

const { version } = JSON.parse(readFileSync(Paths.packageJson, "utf8")) as { readonly version: string }

const cli = Command.run(payments, { name: "payments", version })

/** Results go to standard output, the log to standard error: lines of JSON, or for a person at a terminal. */
const logger = Logger.replace(
  Logger.defaultLogger,
  process.stderr.isTTY
    ? Logger.prettyLogger({ stderr: true })
    : Logger.map(Logger.jsonLogger, (line) => void process.stderr.write(`${line}\n`))
)

const codeOf = (error: unknown): number => {
  if (ValidationError.isValidationError(error)) return exitCodes.usage
  if (typeof error !== "object" || error === null || !("_tag" in error)) return 1
  const code = "code" in error ? error.code : error._tag
  switch (code) {
    case "ConfigProblems":
    case "INVALID_ARGUMENT":
      return exitCodes.usage
    case "NOT_FOUND":
      return exitCodes.notFound
    case "FAILED_PRECONDITION":
      return exitCodes.refused
    case "UNAVAILABLE":
    case "DEADLINE_EXCEEDED":
    case "KafkaUnavailable":
      return exitCodes.unavailable
    case "DatabaseUnavailable":
      return "refused" in error && error.refused === true ? 1 : exitCodes.unavailable
    default:
      return 1
  }
}

/** A failure is one line for whoever started us; a bug is told whole, in the log. */
const report = (cause: Cause.Cause<unknown>) => {
  const failure = Cause.failureOption(cause)
  if (Option.isNone(failure)) return Cause.isInterruptedOnly(cause) ? Effect.void : Effect.logFatal("bug", cause)
  // the parser has told its errors already
  return ValidationError.isValidationError(failure.value)
    ? Effect.void
    : Effect.sync(() => process.stderr.write(`payments: ${(failure.value as Error).message}\n`))
}

Effect.suspend(() => cli(process.argv)).pipe(
  Effect.tapErrorCause(report),
  Effect.withScheduler(Garbage.scheduler),
  // counters of every fiber, which say nothing of payments
  Effect.withRuntimeFlagsPatch(RuntimeFlagsPatch.disable(RuntimeFlags.RuntimeMetrics)),
  Effect.provide(Layer.mergeAll(NodeContext.layer, CliConfig.layer({ showBuiltIns: false }), logger)),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    disablePrettyLogger: true,
    teardown: (exit, onExit) =>
      onExit(
        Exit.match(exit, {
          onSuccess: () => 0,
          onFailure: (cause) =>
            Cause.isInterruptedOnly(cause)
              ? 0
              : Option.match(Cause.failureOption(cause), { onNone: () => 1, onSome: codeOf })
        })
      )
  })
)
