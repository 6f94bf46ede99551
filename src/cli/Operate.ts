import { Args, Command } from "@effect/cli"
import { Console, Effect, Schedule } from "effect"
import type { Config } from "../Config.js"
import { readSettings, settings } from "../Config.js"
import * as Migrations from "../infra/postgres/Migrations.js"
import type { Setting } from "../infra/runtime/Setting.js"
import { roles } from "../ops/Parts.js"
import * as Database from "./Database.js"
import { json, print, waitingFor, withSettings } from "./Output.js"
import * as Prepare from "./Prepare.js"
import { rolesOf, serve as runServices } from "./Serve.js"
import { settingsOf } from "./Services.js"

const serve = Command.make("serve", {
  parts: Args.choice(roles.map((role) => [role, role] as const), { name: "part" }).pipe(
    Args.withDescription(
      "Services to run: consumer, relay (with the pruner), grpc; these by default. console: the console alone"
    ),
    Args.repeated
  )
}, ({ parts }) => withSettings(settingsOf(rolesOf(parts)), () => runServices(parts))).pipe(
  Command.withDescription("Run the services until SIGTERM or SIGINT")
)

/** An attempt waits for the lock for a second, so that these are about a minute. */
const attemptsBetweenLines = 20

/** Migrates as soon as no other transaction holds the tables. Says why it waits at once, and then once a minute. */
const migrated = Effect.suspend(() => {
  let attempts = 0
  return Migrations.migrate(Prepare.migrations).pipe(
    Effect.tapErrorTag(
      "TableLocked",
      ({ message }) =>
        attempts++ % attemptsBetweenLines === 0
          ? Effect.logWarning(`${message}: trying again every 2 seconds`)
          : Effect.void
    ),
    Effect.retry({ while: ({ _tag }) => _tag === "TableLocked", schedule: Schedule.spaced("2 seconds") })
  )
})

const migrate = Command.make(
  "migrate",
  { json },
  ({ json }) =>
    withSettings(Database.used, (config) =>
      Effect.gen(function*() {
        const applied = yield* migrated.pipe(
          Effect.provide(Database.layer(config, 2)),
          waitingFor("applying migrations, or waiting for another process that applies them")
        )
        const names = applied.map(([, name]) => name)
        yield* print(
          json,
          { applied: names },
          names.length === 0 ? "nothing to migrate" : `migrated: ${names.join(", ")}`
        )
      }))
).pipe(Command.withDescription("Apply pending migrations to the database"))

const showConfig = Command.make("config", { json }, ({ json }) =>
  Effect.gen(function*() {
    const names = Object.keys(settings) as ReadonlyArray<keyof Config>
    const config = yield* readSettings(...names)
    const rows = Object.entries(settings as Record<string, Setting<any>>).map(([key, { name, show }]) =>
      [name, show(config[key as keyof typeof config])] as const
    )
    const width = Math.max(...rows.map(([name]) => name.length))
    yield* json
      ? print(true, Object.fromEntries(rows), "")
      : Console.log(rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n"))
  })).pipe(Command.withDescription("Show the settings in effect, without secrets"))

/** `payments serve`, `migrate` and `config`. */
export const commands = [serve, migrate, showConfig] as const
