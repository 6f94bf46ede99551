import { FileSystem, Path } from "@effect/platform"
import { Clock, Effect, Option, Schema } from "effect"
import * as Identity from "./Identity.js"
import { fromPlatform, Part } from "./LocalStackError.js"

const Held = Schema.Struct({
  part: Part,
  process: Identity.Identity,
  port: Schema.Int,
  url: Schema.String,
  log: Schema.String
})

const Contents = Schema.Struct({
  holder: Identity.Identity,
  startedAt: Schema.Date,
  parts: Schema.Array(Held)
})

/** A server of the holder. */
export type Held = typeof Held.Type

/** Contents of `stack.json`, by which terminals share a stack: its holder, the start time, and its servers. */
export type Contents = typeof Contents.Type

const Text = Schema.parseJson(Contents, { space: 2 })

const encode = (contents: Contents) => Effect.orDie(Schema.encode(Text)(contents))

const at = (folder: string) => Effect.map(Path.Path, (path) => path.join(folder, "stack.json"))

/** Reads the file of a folder. None when it is missing or unreadable. */
export const read = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* fs.readFileString(yield* at(folder)).pipe(
    Effect.flatMap(Schema.decode(Text)),
    Effect.option
  )
})

/** Creates the file. None when another process has created it already. */
export const create = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const identity = yield* Identity.of(process.pid)
  const contents: Contents = {
    // the number alone identifies this process while it runs
    holder: Option.getOrElse(identity, () => ({ pid: process.pid, started: "" })),
    startedAt: new Date(yield* Clock.currentTimeMillis),
    parts: []
  }
  return yield* fs.writeFileString(yield* at(folder), yield* encode(contents), { flag: "wx" }).pipe(
    Effect.as(Option.some(contents)),
    Effect.catchIf(
      (error) => error._tag === "SystemError" && error.reason === "AlreadyExists",
      () => Effect.succeedNone
    ),
    Effect.mapError(fromPlatform("stack"))
  )
})

/** Replaces the contents atomically. */
export const replace = Effect.fnUntraced(function*(folder: string, contents: Contents) {
  const fs = yield* FileSystem.FileSystem
  const file = yield* at(folder)
  yield* fs.writeFileString(`${file}.new`, yield* encode(contents))
  yield* fs.rename(`${file}.new`, file)
}, Effect.mapError(fromPlatform("stack")))

/** Removes the file if it exists. */
export const remove = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.remove(yield* at(folder), { force: true })
}, Effect.mapError(fromPlatform("stack")))
