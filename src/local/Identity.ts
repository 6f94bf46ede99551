import { Command, FileSystem } from "@effect/platform"
import { Effect, Option, Schedule, Schema } from "effect"

/**
 * A process by its number and start time, which distinguishes it from a later process with the same number. A process of an
 * earlier run may be ended only when both match.
 */
export const Identity = Schema.Struct({ pid: Schema.Int, started: Schema.String })
export type Identity = typeof Identity.Type

const fromProc = Effect.fnUntraced(function*(pid: number) {
  const fs = yield* FileSystem.FileSystem
  const boot = (yield* fs.readFileString("/proc/sys/kernel/random/boot_id")).trim()
  const stat = yield* Effect.option(fs.readFileString(`/proc/${pid}/stat`))
  return Option.flatMap(stat, (stat) => {
    // after the name, which may hold anything, in parentheses: state, then start time as the 20th field
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    return fields[0] === "Z" ? Option.none() : Option.some(`${boot} ${fields[19]}`)
  })
})

const fromPs = (pid: number) =>
  Command.string(Command.make("ps", "-o", "lstart=", "-p", String(pid))).pipe(
    Effect.map((line) => Option.liftPredicate(line.trim(), (line) => line !== "")),
    Effect.orElseSucceed(Option.none<string>)
  )

/** The identity of the process with this number; none when there is no such process. */
export const of = (pid: number) =>
  fromProc(pid).pipe(
    // not Linux
    Effect.orElse(() => fromPs(pid)),
    Effect.map(Option.map((started): Identity => ({ pid, started })))
  )

/** True while this process runs. */
export const runs = (identity: Identity) =>
  Effect.map(of(identity.pid), Option.exists((now) => now.started === identity.started))

const send = (pid: number, signal: NodeJS.Signals) => Effect.ignore(Effect.try(() => process.kill(pid, signal)))

/** Completes when this process has ended. */
export const gone = (identity: Identity) =>
  Effect.repeat(runs(identity), { until: (running) => !running, schedule: Schedule.spaced("50 millis") })

/** Sends a signal to this process, if it still runs. */
export const signal = (identity: Identity, name: NodeJS.Signals) =>
  Effect.flatMap(runs(identity), (running) => running ? send(identity.pid, name) : Effect.void)

/** Ends a process and its group with a signal, and with SIGKILL if it still runs after 5 seconds. */
export const end = (identity: Identity, name: NodeJS.Signals) =>
  Effect.whenEffect(
    send(-identity.pid, name).pipe(
      Effect.zipRight(gone(identity)),
      Effect.timeout("5 seconds"),
      Effect.orElse(() => Effect.timeout(Effect.zipRight(send(-identity.pid, "SIGKILL"), gone(identity)), "5 seconds")),
      Effect.ignore
    ),
    runs(identity)
  )
