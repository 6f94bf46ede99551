import { Options } from "@effect/cli"
import { Console, Effect, Logger, LogLevel } from "effect"
import type { ConfigOf, Settings } from "../Config.js"
import { readSettings } from "../Config.js"

/** The flag `--json`. */
export const json = Options.boolean("json").pipe(
  Options.withDescription("Print results and errors as lines of JSON")
)

/** Prints a result as text or as a line of JSON, in which a bigint is a number and undefined is left out. */
export const print = (asJson: boolean, value: Record<string, unknown>, text: string): Effect.Effect<void> =>
  Console.log(asJson ? toJson(value) : text)

const toJson = (value: unknown): string => {
  if (typeof value === "bigint") return String(value)
  if (Array.isArray(value)) return `[${value.map(toJson).join(",")}]`
  if (typeof value !== "object" || value === null || value instanceof Date) return JSON.stringify(value ?? null)
  const items = Object.entries(value).filter(([, item]) => item !== undefined)
  return `{${items.map(([name, item]) => `${JSON.stringify(name)}:${toJson(item)}`).join(",")}}`
}

/** Shows `what` on standard error while the effect runs, when that is a terminal. */
export const waitingFor = (what: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  if (!process.stderr.isTTY) return effect
  const write = (text: string) => Effect.sync(() => void process.stderr.write(text))
  return Effect.ensuring(Effect.zipRight(write(`${what} …`), effect), write("\r\u001b[K"))
}

/** Runs a command with the settings that it uses, and with LOG_LEVEL as the minimum of its log. */
export const withSettings = <K extends keyof Settings, A, E, R>(
  names: ReadonlyArray<K>,
  run: (config: ConfigOf<K>) => Effect.Effect<A, E, R>
) =>
  Effect.flatMap(
    readSettings<K | "logLevel">("logLevel", ...names),
    (config) => Logger.withMinimumLogLevel(run(config as ConfigOf<K>), LogLevel.fromLiteral(config.logLevel))
  )

/** Exit codes. Other failures are 1. A command that a signal ends has 128 plus the number of the signal. */
export const exitCodes = {
  /** The command line or the environment is wrong. */
  usage: 2,
  notFound: 3,
  /** The payment already has the opposite result. */
  refused: 4,
  /** A server did not answer, or limits the caller; a later try may work. */
  unavailable: 5,
  /** The gRPC server does not know the caller, or the caller lacks a scope. */
  denied: 6
} as const
