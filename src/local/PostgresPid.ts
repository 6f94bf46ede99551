import { Command, FileSystem, Path } from "@effect/platform"
import { Effect, Option } from "effect"
import { LocalStackError } from "./LocalStackError.js"

/** True when this process is a PostgreSQL that serves this data: it works in that folder, or has it on its command line. */
const serves = Effect.fnUntraced(function*(pid: number, data: string) {
  const fs = yield* FileSystem.FileSystem
  const cwd = yield* Effect.option(fs.readLink(`/proc/${pid}/cwd`))
  if (Option.isSome(cwd)) return cwd.value === (yield* fs.realPath(data))
  // not Linux, or a process of another user
  const command = yield* fs.readFileString(`/proc/${pid}/cmdline`).pipe(
    Effect.orElse(() => Command.string(Command.make("ps", "-ww", "-o", "command=", "-p", `${pid}`))),
    Effect.orElseSucceed(() => "")
  )
  return command.includes("postgres") && command.includes(data)
})

/**
 * Removes the `postmaster.pid` of a killed server. PostgreSQL mistakes any process with that number for its server, and after a
 * restart of a machine or container there often is one. Fails when the process is the server. PostgreSQL detects processes that
 * still use the shared memory without this file.
 */
export const clear = Effect.fnUntraced(function*(data: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(data, "postmaster.pid")
  if (!(yield* fs.exists(file))) return
  // a power failure may leave an empty file
  const pid = Number.parseInt(yield* fs.readFileString(file))
  if (pid > 0 && (yield* serves(pid, data))) {
    return yield* new LocalStackError({
      part: "postgres",
      problem: `process ${pid} is a PostgreSQL that already serves the data in ${data}`,
      wayOut: `Stop it, which loses nothing: kill -INT ${pid}`
    })
  }
  yield* fs.remove(file, { force: true })
})
