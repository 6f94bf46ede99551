import { Command, FileSystem } from "@effect/platform"
import { Effect, Option } from "effect"
import { given } from "../infra/runtime/Setting.js"
import { UsageError } from "./Failure.js"

/**
 * Lets a person edit bytes in `$VISUAL` or `$EDITOR`, in a temporary file that only this user can read. Returns the new bytes,
 * without the line break that editors add at the end. Fails with `UsageError` without an editor, and when it fails.
 */
export const edit = Effect.fn("cli.edit")(function*(bytes: Buffer) {
  const fs = yield* FileSystem.FileSystem
  const editor = Option.orElse(yield* Effect.orDie(given("VISUAL")), () => Option.none<string>()).pipe(
    Option.match({ onNone: () => Effect.orDie(given("EDITOR")), onSome: (name) => Effect.succeed(Option.some(name)) })
  )
  const program = yield* editor
  if (Option.isNone(program)) {
    return yield* new UsageError({ problem: "--edit needs an editor: set EDITOR, or give --value-file" })
  }
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "payments-letter-" })
  const file = `${folder}/value.json`
  yield* fs.writeFile(file, bytes, { mode: 0o600 })
  // a shell, because EDITOR may have arguments
  const code = yield* Command.make("sh", "-c", `${program.value} "$1"`, "editor", file).pipe(
    Command.stdin("inherit"),
    Command.stdout("inherit"),
    Command.stderr("inherit"),
    Command.exitCode
  )
  if (code !== 0) return yield* new UsageError({ problem: `the editor ended with ${code}: nothing was changed` })
  const edited = Buffer.from(yield* fs.readFile(file))
  const added = edited.at(-1) === 0x0a && bytes.at(-1) !== 0x0a
  return added ? edited.subarray(0, -1) : edited
}, Effect.scoped)
