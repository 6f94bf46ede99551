import * as NodeContext from "@effect/platform-node/NodeContext"
import { ConfigProvider, Console, Effect, Exit, Layer, Logger, Option } from "effect"
import { format } from "node:util"
import * as Failure from "../../src/cli/Failure.js"
import * as Program from "../../src/cli/Program.js"
import * as LogLine from "../../src/infra/runtime/LogLine.js"

/**
 * Runs a command in this process, with only this environment. Returns what `Program.run` returns, without the second of CPU
 * that the start of a program takes. Signals, closed outputs and variables that libraries read need a program.
 */
export const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>>) =>
  Effect.gen(function*() {
    let stdout = ""
    let stderr = ""
    const tell = (line: string) => void (stderr += `${line}\n`)
    const console = yield* Console.consoleWith(Effect.succeed)
    const exit = yield* Program.run(args).pipe(
      Effect.withConsole({
        ...console,
        log: (...values) => Effect.sync(() => void (stdout += `${format(...values)}\n`)),
        error: () => Effect.void
      }),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)))),
      Effect.provide(Layer.merge(
        NodeContext.layer,
        Logger.replace(Logger.defaultLogger, Logger.map(LogLine.json, tell))
      )),
      Effect.exit,
      Effect.timeout("60 seconds")
    )
    if (Exit.isSuccess(exit)) return { code: 0, stdout, stderr }
    const failure = Failure.of(exit.cause)
    if (Option.isNone(failure)) return yield* Effect.failCause(exit.cause).pipe(Effect.orDie)
    tell(Failure.text(failure.value, args.includes("--json")))
    return { code: Failure.exitCodeOf(exit.cause), stdout, stderr }
  })
