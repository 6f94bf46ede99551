import { type CommandExecutor, FileSystem } from "@effect/platform"
import type { Duration } from "effect"
import { Effect, Schedule } from "effect"
import type { Part } from "./LocalStackError.js"
import { LocalStackError } from "./LocalStackError.js"
import * as Probe from "./Probe.js"
import * as Process from "./Process.js"

/** Certificate and key of a server, and the authority whose clients it knows. All PEM. */
export interface ServerTls {
  /** With 127.0.0.1 among its names. */
  readonly certificate: string
  readonly key: string
  readonly ca: string
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
  /** Kafka only: the broker runs for seconds or minutes. */
  readonly shortLived: boolean
  /** Kafka only: additional or overriding broker properties. */
  readonly properties: Readonly<Record<string, string>>
  /** Kafka only: the broker speaks TLS, and asks clients for a certificate without demanding one. */
  readonly tls?: ServerTls | undefined
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
  yield* Probe.answers[part](place.port, place.tls !== undefined).pipe(
    Effect.repeat({ until: (answered) => answered, schedule: Schedule.spaced("25 millis") }),
    Effect.timeoutFail({
      duration: options.within,
      onTimeout: () =>
        new LocalStackError({
          part,
          problem: `it runs but does not answer on port ${place.port} (log: ${log})`,
          wayOut: "Read the log, and try again."
        })
    }),
    Effect.raceFirst(ended)
  )
  return { running, ended }
})
