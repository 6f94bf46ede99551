import type { CommandExecutor } from "@effect/platform"
import { FileSystem, Path } from "@effect/platform"
import { Clock, Effect, ExecutionStrategy, Exit, Record, Scope } from "effect"
import * as Holder from "./Holder.js"
import * as Kafka from "./Kafka.js"
import type { LocalStackError } from "./LocalStackError.js"
import { fromPlatform, Part } from "./LocalStackError.js"
import * as Ports from "./Ports.js"
import * as Postgres from "./Postgres.js"
import * as Redis from "./Redis.js"
import type { RunningPart, ServerTls } from "./Server.js"

export { LocalStackError } from "./LocalStackError.js"

export interface Progress {
  readonly part: Part
  readonly step: "fetching" | "starting" | "ready"
  readonly detail: string
  /** Milliseconds since the start of the stack. */
  readonly millis: number
}

export interface StackOptions {
  /** Data and logs of this stack: `<folder>/{postgres,redis,kafka}/{data,log}`, and `<folder>/stack.json`. */
  readonly folder: string
  /** Folder of downloads (the jars of Kafka, Redis), which several stacks may share. */
  readonly cache: string
  /** 0 is any free port. */
  readonly ports: { readonly [part in Part]: number }
  /** Default: all three. */
  readonly parts?: ReadonlyArray<Part>
  /** For tests: kill the servers instead of shutting them down, and delete the data at the end. Default: false. */
  readonly throwaway?: boolean
  /** For tests: the servers run for seconds or minutes. Default: `throwaway`. */
  readonly shortLived?: boolean
  /** For tests: additional or overriding broker properties. */
  readonly kafkaProperties?: Readonly<Record<string, string>>
  /** For tests: folder with the jars of another version of Kafka. Default: Kafka from PATH, or else the downloaded one. */
  readonly kafkaLibraries?: string | undefined
  /** The servers speak TLS; PostgreSQL and Redis take encrypted connections alone. Default: no encryption. */
  readonly tls?: ServerTls
  readonly onProgress?: (progress: Progress) => Effect.Effect<void>
}

/** The started servers, each of which has answered. */
export interface RunningStack {
  readonly databaseUrl?: string
  readonly redisUrl?: string
  readonly kafkaBrokers?: string
  readonly parts: { readonly [part in Part]?: RunningPart }
  /** Fails when one of the servers ends by itself. */
  readonly ended: Effect.Effect<never, LocalStackError>
}

type Platform = CommandExecutor.CommandExecutor | FileSystem.FileSystem | Path.Path

const starts = { postgres: Postgres.start, redis: Redis.start, kafka: Kafka.start }

const launchPart = Effect.fnUntraced(
  function*(
    part: Part,
    port: number,
    options: StackOptions,
    spawned: (running: RunningPart) => Effect.Effect<void, LocalStackError>,
    since: number
  ) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = path.join(options.folder, part)
    const log = path.join(folder, "log")
    const progress = Effect.fnUntraced(function*(step: Progress["step"], detail: string) {
      const millis = (yield* Clock.currentTimeMillis) - since
      if (options.onProgress) yield* options.onProgress({ part, step, detail, millis })
    })
    yield* fs.makeDirectory(folder, { recursive: true })
    yield* fs.writeFileString(log, "")
    const { cache, kafkaProperties: properties = {}, throwaway = false, shortLived = throwaway, tls } = options
    const libraries = options.kafkaLibraries
    const place = { folder, cache, log, port, throwaway, shortLived, properties, libraries, tls, progress, spawned }
    const server = yield* starts[part](place)
    yield* progress("ready", server.running.url)
    return server
  },
  (effect, part) =>
    Effect.mapError(effect, (error) => error._tag === "LocalStackError" ? error : fromPlatform(part)(error))
)

/** Deletes the data of a throwaway stack, and its folder if that is empty then. */
const discard = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  yield* Holder.reset(folder)
  const rest = yield* fs.readDirectory(folder)
  if (rest.length === 0) yield* fs.remove(folder, { recursive: true })
}, Effect.ignore)

const launch = Effect.fnUntraced(function*(given: StackOptions) {
  const path = yield* Path.Path
  const options = { ...given, folder: path.resolve(given.folder), cache: path.resolve(given.cache) }
  const since = yield* Clock.currentTimeMillis
  const spawned = yield* Holder.hold(options.folder)
  const parts = options.parts ?? Part.literals
  // all ports before the first server, so that no two get the same free port
  const ports = yield* Effect.scoped(
    Effect.forEach(parts, (part) => Effect.map(Ports.resolve(part, options.ports[part]), (port) => ({ part, port })))
  )
  const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.parallel)
  const servers = yield* Effect.forEach(
    ports,
    ({ part, port }) => launchPart(part, port, options, spawned, since),
    { concurrency: "unbounded" }
  ).pipe(Scope.extend(scope))

  const running = servers.map(({ running }) => running)
  const url = (part: Part) => running.find((server) => server.part === part)?.url
  const [databaseUrl, redisUrl, kafkaBrokers] = Part.literals.map(url)
  const stack: RunningStack = {
    ...(databaseUrl === undefined ? {} : { databaseUrl }),
    ...(redisUrl === undefined ? {} : { redisUrl }),
    ...(kafkaBrokers === undefined ? {} : { kafkaBrokers }),
    parts: Record.fromIterableWith(running, (server) => [server.part, server]),
    ended: Effect.forEach(servers, ({ ended }) => ended, { concurrency: "unbounded", discard: true }).pipe(
      Effect.zipRight(Effect.never)
    )
  }
  return stack
})

/**
 * Starts PostgreSQL, Redis and Kafka at the same time, each from PATH or downloaded once, and waits until all answer. They end
 * when the scope closes, and at once when one of them fails to start or the start is interrupted, so that a failed start leaves
 * nothing running. While the stack runs, this process holds the folder; servers that a killed holder left in it end first.
 */
export const start = (options: StackOptions): Effect.Effect<RunningStack, LocalStackError, Platform | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
      if (options.throwaway === true) yield* Scope.extend(Effect.addFinalizer(() => discard(options.folder)), scope)
      return yield* restore(launch(options)).pipe(
        Scope.extend(scope),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
    })
  )
