import { Options } from "@effect/cli"
import { Console, Effect, Logger, LogLevel } from "effect"
import type { ConfigOf, Settings } from "../Config.js"
import { readSettings } from "../Config.js"

/** For programs instead of people. */
export const json = Options.boolean("json").pipe(
  Options.withDescription("Print JSON, one document a line; an error too, on standard error")
)

/** Prints a result: as a line of JSON, or as text for people. A bigint is written as the number it is. */
export const print = (asJson: boolean, value: Record<string, unknown>, text: string): Effect.Effect<void> =>
  Console.log(asJson ? toJson(value) : text)

const toJson = (value: Record<string, unknown>) =>
  `{${
    Object.entries(value).map(([name, item]) =>
      `${JSON.stringify(name)}:${typeof item === "bigint" ? String(item) : JSON.stringify(item)}`
    ).join(",")
  }}`

/** Says on standard error what is waited for, while somebody looks at it; the line goes with the wait. */
export const waitingFor = (what: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  if (!process.stderr.isTTY) return effect
  const write = (text: string) => Effect.sync(() => void process.stderr.write(text))
  return Effect.ensuring(Effect.zipRight(write(`${what} …`), effect), write("\r\u001b[K"))
}

/** Runs a command that logs: with the settings that it uses, and what is as severe as LOG_LEVEL is logged. */
export const withSettings = <K extends keyof Settings, A, E, R>(
  names: ReadonlyArray<K>,
  run: (config: ConfigOf<K>) => Effect.Effect<A, E, R>
) =>
  Effect.flatMap(
    readSettings<K | "logLevel">("logLevel", ...names),
    (config) => Logger.withMinimumLogLevel(run(config as ConfigOf<K>), LogLevel.fromLiteral(config.logLevel))
  )

/** What the exit code says. Other failures are 1. A command that a signal stops has 128 and the number of the signal. */
export const exitCodes = {
  /** The command line or the environment is wrong. */
  usage: 2,
  notFound: 3,
  /** The payment has ended the other way. */
  refused: 4,
  /** A server did not answer; trying again later may work. */
  unavailable: 5
} as const
