import type { Layer } from "effect"
import { Either, Option, Redacted } from "effect"
import type { ConfigOf } from "../Config.js"
import { settings } from "../Config.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import * as PostgresUrl from "../infra/postgres/PostgresUrl.js"
import * as SecretCommand from "../infra/runtime/SecretCommand.js"
import * as StorePassword from "./StorePassword.js"

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

const inUrl = (url: Redacted.Redacted) =>
  Either.match(PostgresUrl.parse(Redacted.value(url)), {
    onLeft: () => undefined,
    onRight: ({ password }) => password || undefined
  })

const password = (config: Config) =>
  Option.match(config.databasePasswordCommand, {
    onSome: (command) =>
      SecretCommand.make({ variable: settings.databasePasswordCommand.name, command, limit: commandLimit }),
    onNone: () =>
      StorePassword.of({
        url: config.databaseUrl,
        urlFile: config.databaseUrlFile,
        urlVariable: settings.databaseUrl.name,
        parseUrl: PostgresUrl.setting,
        inUrl,
        source: {
          variable: settings.databasePassword.name,
          value: config.databasePassword,
          file: config.databasePasswordFile
        }
      })
  })

/** Connections to the database of the settings. */
export const layer = (config: Config, maxConnections: number): Layer.Layer<Postgres.Database> =>
  Postgres.layer({ url: config.databaseUrl, password: password(config), maxConnections })
