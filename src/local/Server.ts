import { type CommandExecutor, FileSystem } from "@effect/platform"
import type { Duration } from "effect"
import { Effect, Schedule } from "effect"
import type { Part } from "./LocalStackError.js"
import { LocalStackError } from "./LocalStackError.js"
import * as Probe from "./Probe.js"
import * as Process from "./Process.js"

/** What a part is told when it is started. */
export interface Place {
  /** Everything of this part. */
  readonly folder: string
  /** Where it writes what it has to say. */
  readonly log: string
  /** What is fetched once, shared between stacks. */
  readonly cache: string
  readonly port: number
  readonly throwaway: boolean
  /** Of a broker: what it is told beside or instead of ours. */
  readonly properties: Readonly<Record<string, string>>
  readonly progress: (step: "fetching" | "starting", detail: string) => Effect.Effect<void>
  /** Called as soon as there is a process that must not be forgotten. */
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

/** Starts a server and waits until it answers, at most `within`. It ends with the scope; `ended` fails if it does before. */
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
    Effect.timeoutFail({
      duration: options.within,
      onTimeout: () =>
        new LocalStackError({
          part,
          problem: `it runs but does not answer on port ${place.port}; its log: ${log}`,
          wayOut: "Look there, and try again."
        })
    }),
    Effect.raceFirst(ended)
  )
  return { running, ended }
})
