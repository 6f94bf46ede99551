import { CliConfig, Command } from "@effect/cli"
import { Console, Effect, Option } from "effect"
import { readFileSync } from "node:fs"
import * as Audit from "./Audit.js"
import * as DeadLetters from "./DeadLetters.js"
import * as Doctor from "./Doctor.js"
import * as Drills from "./Drills.js"
import * as Failure from "./Failure.js"
import * as Help from "./Help.js"
import * as Local from "./Local.js"
import * as Operate from "./Operate.js"
import * as Operations from "./Operations.js"
import * as Order from "./Order.js"
import * as Outbox from "./Outbox.js"
import * as Paths from "./Paths.js"
import * as Recover from "./Recover.js"
import * as Saga from "./Saga.js"
import * as Shards from "./Shards.js"
import * as Start from "./Start.js"
import * as Token from "./Token.js"

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

/**
 * Runs a command. `args` follow the name of the program. Fails with `UsageError`, an error of the parser, or the command's own
 * error: `Failure` describes each. Answers help itself: the library's help has escapes and filler, and its usage line lacks the
 * program's name.
 */
export const run = (args: ReadonlyArray<string>) =>
  Effect.suspend(() =>
    Option.match(Help.wish(payments, commands, args), {
      onNone: () => parsed(["node", "payments", ...args]),
      onSome: (wish) =>
        wish._tag === "Unknown"
          ? new Failure.UsageError({ problem: wish.problem })
          : Console.log(wish._tag === "Help" ? wish.text : version)
    })
  ).pipe(Effect.provide(CliConfig.layer({ showBuiltIns: false })))
