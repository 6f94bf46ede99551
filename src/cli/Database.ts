import { Effect, Either, Layer, Option, Redacted } from "effect"
import type { ConfigOf } from "../Config.js"
import { settings } from "../Config.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresUrl from "../infra/postgres/PostgresUrl.js"
import type { Secret } from "../infra/runtime/Secret.js"
import * as Secrets from "../infra/runtime/Secret.js"
import * as SecretCommand from "../infra/runtime/SecretCommand.js"
import { ConfigProblems } from "../infra/runtime/Setting.js"

/** The settings of every connection to PostgreSQL. */
export const used = [
  "databaseUrl",
  "databaseUrlFile",
  "databasePassword",
  "databasePasswordFile",
  "databasePasswordCommand"
] as const
type Config = ConfigOf<(typeof used)[number]>

/** Longest run of `DATABASE_PASSWORD_COMMAND`. */
const commandLimit = "10 seconds"

const { databasePassword, databasePasswordCommand, databasePasswordFile, databaseUrl, databaseUrlFile } = settings

const passwordIn = (url: Redacted.Redacted) =>
  Either.match(PostgresUrl.parse(Redacted.value(url)), { onLeft: () => undefined, onRight: ({ password }) => password })

/** The password of a URL, for a file with the whole URL. */
const parsePassword = (text: string) =>
  Either.flatMap(PostgresUrl.setting(text), (url) => {
    const password = passwordIn(url)
    return password ? Either.right(Redacted.make(password)) : Either.left("has no password")
  })

/**
 * The source of the password; none when the URL of the environment has it, or when the server needs none. Fails with
 * `ConfigProblems` when there are two sources, and when a file has no password now.
 */
const password = Effect.fnUntraced(function*(config: Config): Effect.fn.Return<Secret | undefined, ConfigProblems> {
  const inUrl = passwordIn(config.databaseUrl) !== undefined
  const given = [
    [databasePassword.name, config.databasePassword],
    [databasePasswordFile.name, config.databasePasswordFile],
    [databasePasswordCommand.name, config.databasePasswordCommand]
  ] as const
  const names = given.flatMap(([name, value]) => value._tag === "Some" ? [name] : [])
  if (names.length > 1) return yield* ConfigProblems.one(names[0]!, `is set beside ${names[1]}: set one of them`, "")
  if (names.length === 1 && inUrl) {
    const url = Option.isSome(config.databaseUrlFile) ? databaseUrlFile.name : databaseUrl.name
    return yield* ConfigProblems.one(
      names[0]!,
      `is set beside the password in ${url}: remove one of them`,
      databasePasswordFile.example
    )
  }
  if (Option.isSome(config.databasePasswordCommand)) {
    const command = config.databasePasswordCommand.value
    return SecretCommand.make({ variable: databasePasswordCommand.name, command, limit: commandLimit })
  }
  const secret = yield* inUrl && Option.isSome(config.databaseUrlFile)
    ? Secrets.choose({
      variable: databaseUrl.name,
      value: Option.none(),
      file: config.databaseUrlFile,
      parse: parsePassword
    })
    : Secrets.choose({
      variable: databasePassword.name,
      value: config.databasePassword,
      file: config.databasePasswordFile
    })
  return Option.getOrUndefined(secret)
})

/** Connections to the database of the settings. Fails with `ConfigProblems` when these contradict each other. */
export const layer = (config: Config, maxConnections: number): Layer.Layer<Postgres.Database, ConfigProblems> =>
  Layer.unwrapEffect(
    Effect.map(password(config), (password) => Postgres.layer({ url: config.databaseUrl, password, maxConnections }))
  )
