import { Options } from "@effect/cli"
import { Console, Effect } from "effect"

/** For programs instead of people. */
export const json = Options.boolean("json").pipe(Options.withDescription("Print JSON, one document a line"))

/** Prints a result: as a line of JSON, or as text for people. A bigint is written as the number it is. */
export const print = (asJson: boolean, value: Record<string, unknown>, text: string): Effect.Effect<void> =>
  Console.log(asJson ? toJson(value) : text)

/** Waits until whoever reads what is printed has taken it: without that, lines pile up in memory. */
export const drained: Effect.Effect<void> = Effect.suspend(() => {
  const { stdout } = process
  return !stdout.writableNeedDrain ? Effect.void : Effect.async<void>((resume) => {
    const go = () => resume(Effect.void)
    stdout.once("drain", go).once("close", go)
    return Effect.sync(() => stdout.off("drain", go).off("close", go))
  })
})

const toJson = (value: Record<string, unknown>) =>
  `{${
    Object.entries(value).map(([name, item]) =>
      `${JSON.stringify(name)}:${typeof item === "bigint" ? String(item) : JSON.stringify(item)}`
    ).join(",")
  }}`

/** What the exit code says. Other failures are 1. */
export const exitCodes = {
  /** The command line or the environment is wrong. */
  usage: 2,
  notFound: 3,
  /** The payment has ended the other way. */
  refused: 4,
  /** A server did not answer; trying again later may work. */
  unavailable: 5
} as const
