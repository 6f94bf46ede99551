import { Command, FileSystem, Path } from "@effect/platform"
import { Effect, Option } from "effect"
import { LocalStackError } from "./LocalStackError.js"

/** Whether this process is a server of this data: a PostgreSQL works in the folder of its data, and ours is told it by name. */
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
 * Removes the `postmaster.pid` that a server has left which did not end by itself. PostgreSQL takes any process with that
 * number for its server, and after a restart of a machine or a container there often is one. Fails when it is the server.
 * What still uses the shared memory of a server, PostgreSQL sees without this file.
 */
export const clear = Effect.fnUntraced(function*(data: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(data, "postmaster.pid")
  if (!(yield* fs.exists(file))) return
  // an empty one is the remnant of a power failure
  const pid = Number.parseInt(yield* fs.readFileString(file))
  if (pid > 0 && (yield* serves(pid, data))) {
    return yield* new LocalStackError({
      part: "postgres",
      problem: `process ${pid} is a PostgreSQL that serves the data in ${data} already`,
      wayOut: `End it, nothing is lost: kill -INT ${pid}`
    })
  }
  yield* fs.remove(file, { force: true })
})
