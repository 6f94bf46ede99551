import type { CommandExecutor } from "@effect/platform"
import { FileSystem, Path } from "@effect/platform"
import { Effect, Option, SynchronizedRef } from "effect"
import * as Identity from "./Identity.js"
import { fromPlatform, LocalStackError, Part } from "./LocalStackError.js"
import * as Probe from "./Probe.js"
import type { RunningPart } from "./Server.js"
import * as StackFile from "./StackFile.js"

/** Time limit of `down` for the holder: more than the default SHUTDOWN_TIMEOUT of the services beside it. */
const holderLimit = "30 seconds"

const inUse = (folder: string, by: string) =>
  new LocalStackError({
    part: "stack",
    problem: `the local stack in ${folder} is in use${by}`,
    wayOut: "Use it as it is, or stop it first: payments local down"
  })

/** Fails when a running process holds the stack. Otherwise stops the servers of a dead holder and removes its file. */
const clear = Effect.fnUntraced(function*(folder: string) {
  const previous = yield* StackFile.read(folder)
  if (Option.isSome(previous)) {
    const { holder, parts, startedAt } = previous.value
    if (yield* Identity.runs(holder)) {
      return yield* inUse(folder, ` by process ${holder.pid} since ${startedAt.toISOString()}`)
    }
    yield* Effect.forEach(
      parts,
      ({ part, process }) => Identity.end(process, part === "postgres" ? "SIGINT" : "SIGTERM"),
      {
        concurrency: "unbounded",
        discard: true
      }
    )
  }
  yield* StackFile.remove(folder)
})

/** Makes this process the holder of the folder for the life of the scope. Returns a function that adds a server to its file. */
export const hold = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  yield* Effect.mapError(fs.makeDirectory(folder, { recursive: true }), fromPlatform("stack"))
  const contents = yield* Effect.acquireRelease(
    clear(folder).pipe(
      Effect.zipRight(StackFile.create(folder)),
      Effect.flatMap(Effect.mapError(() => inUse(folder, ": another process was faster")))
    ),
    () => Effect.ignore(StackFile.remove(folder))
  )
  const file = yield* SynchronizedRef.make(contents)
  const context = yield* Effect.context<CommandExecutor.CommandExecutor | FileSystem.FileSystem | Path.Path>()
  const add = Effect.fnUntraced(function*({ log, part, pid, port, url }: RunningPart) {
    const identity = yield* Identity.of(pid)
    // a server that has already ended needs no entry
    if (Option.isNone(identity)) return
    yield* SynchronizedRef.updateEffect(file, (now) => {
      const next = { ...now, parts: [...now.parts, { part, process: identity.value, port, url, log }] }
      return Effect.as(StackFile.replace(folder, next), next)
    })
  })
  return (running: RunningPart) => Effect.provide(add(running), context)
})

/** State of a stack, as another terminal sees it. */
export interface StackStatus {
  /** None when no process holds the stack. */
  readonly holder: Option.Option<{ readonly pid: number; readonly startedAt: Date }>
  readonly parts: ReadonlyArray<
    RunningPart & {
      /** True while its process runs. */
      readonly running: boolean
      /** True when it answers in its own protocol within a second. */
      readonly answering: boolean
    }
  >
}

/** State of the stack in a folder. Cannot fail: without a file there is no holder and no part. */
export const status = Effect.fnUntraced(function*(folder: string) {
  const contents = yield* StackFile.read(folder)
  if (Option.isNone(contents)) return { holder: Option.none(), parts: [] } satisfies StackStatus
  const { holder, parts, startedAt } = contents.value
  const held = yield* Identity.runs(holder)
  const status: StackStatus = {
    holder: held ? Option.some({ pid: holder.pid, startedAt }) : Option.none(),
    parts: yield* Effect.forEach(parts, ({ process, ...rest }) =>
      Effect.map(
        Effect.all({ running: Identity.runs(process), answering: Probe.answers[rest.part](rest.port) }),
        (state) => ({ ...rest, ...state, pid: process.pid })
      ), { concurrency: "unbounded" })
  }
  return status
})

/**
 * Stops the stack of a folder, whichever process holds it, and waits for the end. Returns "stopped"; "cleaned-up" when the
 * holder had died and left servers or a file behind; "not-running" when nothing was there. Fails when the holder does not end
 * within 30 s.
 */
export const down = Effect.fnUntraced(function*(folder: string) {
  const contents = yield* StackFile.read(folder)
  if (Option.isNone(contents)) return "not-running" as const
  const { holder } = contents.value
  const held = yield* Identity.runs(holder)
  if (held) {
    yield* Identity.signal(holder, "SIGTERM")
    yield* Identity.gone(holder).pipe(
      Effect.timeoutFail({
        duration: holderLimit,
        onTimeout: () =>
          new LocalStackError({
            part: "stack",
            problem: `process ${holder.pid}, which holds the stack, did not end within ${holderLimit}`,
            wayOut: `Run kill -9 ${holder.pid}, then payments local down again.`
          })
      })
    )
  }
  yield* clear(folder)
  return held ? "stopped" as const : "cleaned-up" as const
})

/** Deletes data and logs of the servers, but no downloads. Fails while a running process holds the stack. */
export const reset = Effect.fnUntraced(function*(folder: string) {
  yield* clear(folder)
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  yield* Effect.forEach(
    Part.literals,
    (part) => fs.remove(path.join(folder, part), { recursive: true, force: true }),
    { discard: true }
  ).pipe(Effect.mapError(fromPlatform("stack")))
})
