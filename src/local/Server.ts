import { type CommandExecutor, FileSystem, Path } from "@effect/platform"
import type { Duration } from "effect"
import { Effect, Option, Schedule } from "effect"
import type { Part } from "./LocalStackError.js"
import type { LocalStackError } from "./LocalStackError.js"
import type { User } from "./Privileges.js"
import * as Probe from "./Probe.js"
import * as Process from "./Process.js"

/** Certificate of a server for 127.0.0.1, its key, and the authority that clients trust and that signs theirs: all PEM. */
export interface ServerTls {
  readonly certificate: string
  readonly key: string
  readonly authority: string
}

/** Options of a server. */
export interface Place {
  /** Folder of this part. */
  readonly folder: string
  /** Log file. */
  readonly log: string
  /** Folder of downloads, shared between stacks. */
  readonly cache: string
  readonly port: number
  readonly throwaway: boolean
  /** The server takes encrypted connections alone, and asks clients for a certificate without demanding one. */
  readonly tls?: ServerTls | undefined
  /** Kafka only: the broker runs for seconds or minutes. */
  readonly shortLived: boolean
  /** Kafka only: additional or overriding broker properties. */
  readonly properties: Readonly<Record<string, string>>
  /** Kafka only: folder with the jars of another version. */
  readonly libraries: string | undefined
  readonly progress: (step: "fetching" | "starting", detail: string) => Effect.Effect<void>
  /** Called as soon as the process exists, to record it for cleaning up. */
  readonly spawned: (running: RunningPart) => Effect.Effect<void, LocalStackError>
}

/** A server that answers. */
export interface RunningPart {
  readonly part: Part
  readonly pid: number
  readonly port: number
  readonly url: string
  readonly log: string
}

/** Writes the files of TLS into the folder of the server, for its user alone. Returns their paths. */
export const tlsFiles = Effect.fnUntraced(function*(place: Place, tls: ServerTls, user: Option.Option<User>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(place.folder, "tls")
  const files = {
    certificate: path.join(folder, "certificate.pem"),
    key: path.join(folder, "key.pem"),
    authority: path.join(folder, "authority.pem")
  }
  yield* fs.makeDirectory(folder, { recursive: true })
  for (const name of ["certificate", "key", "authority"] as const) {
    yield* fs.remove(files[name], { force: true })
    yield* fs.writeFileString(files[name], tls[name], { mode: name === "key" ? 0o600 : 0o644 })
    if (Option.isSome(user)) yield* fs.chown(files[name], user.value.uid, user.value.gid)
  }
  return files
})

/** Starts a server and waits up to `within` for its answer. The server ends with the scope; `ended` fails if it ends before. */
export const serve = Effect.fnUntraced(function*(
  place: Place,
  program: Process.Program,
  options: {
    readonly url: string
    readonly stop: CommandExecutor.Signal
    readonly within: Duration.DurationInput
  }
) {
  const process = yield* Process.start(program, options.stop)
  const { log, part } = program
  const running: RunningPart = { part, pid: process.pid, port: place.port, url: options.url, log }
  yield* place.spawned(running)
  const ended = Effect.provideService(
    Process.ended(program, process),
    FileSystem.FileSystem,
    yield* FileSystem.FileSystem
  )
  yield* Probe.answers[part](place.port).pipe(
    Effect.repeat({ until: (answered) => answered, schedule: Schedule.spaced("25 millis") }),
    Effect.timeoutOption(options.within),
    Effect.flatMap(Option.match({
      onSome: () => Effect.void,
      onNone: () => Effect.flatMap(Process.silent(program, place.port), Effect.fail)
    })),
    Effect.raceFirst(ended)
  )
  return { running, ended }
})
