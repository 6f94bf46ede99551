import { Command, Options } from "@effect/cli"
import { FileSystem } from "@effect/platform"
import { Console, Effect, Option } from "effect"
import { resolve } from "node:path"
import type { ConfigOf } from "../Config.js"
import { readSettings } from "../Config.js"
import * as Holder from "../local/Holder.js"
import type { Part } from "../local/LocalStackError.js"
import type { ServerTls } from "../local/Server.js"
import * as Stack from "../local/Stack.js"
import * as LocalTls from "./LocalTls.js"
import { json, print } from "./Output.js"
import * as Paths from "./Paths.js"

/** The settings of the local stack. */
export const used = ["localPostgresPort", "localRedisPort", "localKafkaPort", "localFolder"] as const
type Config = ConfigOf<(typeof used)[number]>

const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`

/** Prints one line a step; a ready server with the time since the start. */
const onProgress = ({ detail, millis, part, step }: Stack.Progress) =>
  Console.log(
    step === "ready"
      ? `${part.padEnd(14)}ready in ${seconds(millis)}  ${detail}`
      : `${part.padEnd(14)}${step} ${detail}`
  )

/** Folder of data and logs of the local stack, relative to the checkout. */
const stackFolder = (config: ConfigOf<"localFolder">) => resolve(Paths.checkout, config.localFolder, "stack")

/** Starts servers for the life of the scope and prints their progress. */
export const start = (config: Config, parts: ReadonlyArray<Part>, tls?: ServerTls) =>
  Stack.start({
    folder: stackFolder(config),
    cache: resolve(Paths.checkout, config.localFolder, "cache"),
    ports: { postgres: config.localPostgresPort, redis: config.localRedisPort, kafka: config.localKafkaPort },
    parts,
    ...(tls === undefined ? {} : { tls }),
    onProgress
  })

const tls = Options.boolean("tls").pipe(
  Options.withDescription("Encrypt all connections with certificates of a new authority, and make a token for gRPC")
)

/** Writes the variables for other terminals, in the form that a shell reads. Returns the path of the file. */
const writeVariables = Effect.fnUntraced(function*(folder: string, variables: Readonly<Record<string, string>>) {
  const fs = yield* FileSystem.FileSystem
  const file = resolve(folder, "env")
  const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`
  yield* fs.writeFileString(
    file,
    Object.entries(variables).map(([name, value]) => `export ${name}=${quoted(value)}\n`).join(""),
    { mode: 0o600 }
  )
  return file
})

const up = Command.make("up", { tls }, ({ tls }) =>
  Effect.gen(function*() {
    const config = yield* readSettings(...used)
    const folder = resolve(Paths.checkout, config.localFolder, "tls")
    const secured = tls ? yield* LocalTls.make(folder) : undefined
    const stack = yield* start(config, ["postgres", "redis", "kafka"], secured?.servers)
    if (secured !== undefined) {
      const file = yield* writeVariables(folder, {
        DATABASE_URL: stack.databaseUrl!,
        REDIS_URL: stack.redisUrl!,
        KAFKA_BROKERS: stack.kafkaBrokers!,
        ...secured.variables
      })
      yield* Console.log(`all connections are encrypted. In each other terminal: source ${file}`)
    }
    yield* Console.log("the local stack runs until Ctrl-C, or `./payments local down` in another terminal")
    return yield* stack.ended
  }).pipe(Effect.scoped)).pipe(Command.withDescription("Run PostgreSQL, Redis and Kafka until Ctrl-C"))

const down = Command.make("down", { json }, ({ json }) =>
  Effect.gen(function*() {
    const result = yield* Holder.down(stackFolder(yield* readSettings("localFolder")))
    yield* print(json, { result }, `local stack: ${result}`)
  })).pipe(Command.withDescription("Stop the local stack, and the services of npm start, from another terminal"))

const reset = Command.make("reset", { json }, ({ json }) =>
  Effect.gen(function*() {
    const folder = stackFolder(yield* readSettings("localFolder"))
    yield* Holder.reset(folder)
    yield* print(json, { deleted: folder }, "local stack: data and logs deleted")
  })).pipe(Command.withDescription("Delete data and logs of the local stack"))

const status = Command.make("status", { json }, ({ json }) =>
  Effect.gen(function*() {
    const { holder, parts } = yield* Holder.status(stackFolder(yield* readSettings("localFolder")))
    const lines = parts.map(({ answering, part, pid, running, url }) =>
      `${part.padEnd(14)}${running ? answering ? "answers" : "does not answer" : "has ended"}  pid ${pid}  ${url}`
    )
    yield* print(
      json,
      { holder: Option.getOrNull(holder), parts },
      Option.isNone(holder) ? ["local stack: not running", ...lines].join("\n") : lines.join("\n")
    )
  })).pipe(Command.withDescription("Show the servers of the local stack and their addresses"))

/** `payments local`. */
export const command = Command.make("local").pipe(
  Command.withDescription("Real PostgreSQL, Redis and Kafka on this machine, without containers"),
  Command.withSubcommands([up, down, reset, status])
)
