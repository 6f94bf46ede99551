import { Effect, Either, Option, Redacted, Schema } from "effect"
import { readFileSync } from "node:fs"
import type { Parse } from "./Setting.js"

/** The file of a secret cannot be read, or its content is not valid. A later attempt may work. */
export class SecretUnreadable extends Schema.TaggedError<SecretUnreadable>()("SecretUnreadable", {
  /** The variable that names the file. */
  variable: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.variable} ${this.problem}`
  }
}

/**
 * A secret of the environment or of a file. A file is read again at each use, so that its replacement counts without a
 * restart.
 */
export interface Secret {
  readonly get: Effect.Effect<Redacted.Redacted, SecretUnreadable>
}

/** A secret that never changes. */
export const constant = (value: Redacted.Redacted): Secret => ({ get: Effect.succeed(value) })

const nonEmpty: Parse<Redacted.Redacted> = (text) =>
  text === "" ? Either.left("is empty") : Either.right(Redacted.make(text))

/** Reads a file without the line ends after its content: editors and `echo` add one. */
const fromFile = (variable: string, path: string, parse: Parse<Redacted.Redacted>): Secret => ({
  get: Effect.try({
    try: () => readFileSync(path, "utf8").replace(/[\r\n]+$/, ""),
    catch: (cause) =>
      new SecretUnreadable({ variable, problem: `names a file that cannot be read: ${(cause as Error).message}` })
  }).pipe(
    Effect.flatMap((content) =>
      Either.mapLeft(
        parse(content),
        (problem) => new SecretUnreadable({ variable, problem: `names ${path}, whose content ${problem}` })
      )
    )
  )
})

export interface SecretSource {
  /** Name of the variable. The variable of the file has the same name with `_FILE`. */
  readonly variable: string
  readonly value: Option.Option<Redacted.Redacted>
  readonly file: Option.Option<string>
  /** Checks the content of the file. Default: it is not empty. */
  readonly parse?: Parse<Redacted.Redacted> | undefined
}

/** The secret of `NAME` or of the file in `NAME_FILE`; none without both. */
export const of = ({ file, parse = nonEmpty, value, variable }: SecretSource): Option.Option<Secret> =>
  Option.orElse(
    Option.map(file, (path) => fromFile(`${variable}_FILE`, path, parse)),
    () => Option.map(value, constant)
  )
