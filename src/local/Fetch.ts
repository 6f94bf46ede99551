import { FileSystem, Path } from "@effect/platform"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { fileURLToPath } from "node:url"
import type { Part } from "./LocalStackError.js"
import { LocalStackError } from "./LocalStackError.js"
import * as MavenProxy from "./MavenProxy.js"
import * as Process from "./Process.js"

// the same path from src/local and from dist/local
const pom = fileURLToPath(new URL("../../src/local/pom.xml", import.meta.url))

const goals = {
  kafka: "dependency:copy-dependencies",
  redis: "dependency:unpack"
} satisfies Partial<Record<Part, string>>

/** The alternatives for a part that is neither on PATH nor can be downloaded. */
export const waysOn = (variable: string) =>
  `Alternatives: docker compose up, nix develop, or set ${variable} to a server of yours.`

// Maven's download folder does not support two Mavens at once
const oneAtATime = Effect.unsafeMakeSemaphore(1)

/**
 * Returns the folder with the files of `part` in pom.xml. Downloads them with Maven if the folder is not in `cache` yet. The
 * folder appears complete or not at all, so several processes may download at the same time.
 */
export const fetched = Effect.fnUntraced(function*(
  part: keyof typeof goals,
  variable: string,
  cache: string,
  progress: Effect.Effect<void>
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const version = createHash("sha256").update(yield* fs.readFile(pom)).digest("hex").slice(0, 12)
  const folder = path.join(cache, `${part}-${version}`)
  if (yield* fs.exists(folder)) return folder

  if ((yield* Process.which("mvn")) === "") {
    return yield* new LocalStackError({
      part,
      problem: "it is not on PATH, and Maven (mvn) is missing to download it",
      wayOut: waysOn(variable)
    })
  }
  yield* progress
  yield* fs.makeDirectory(cache, { recursive: true })
  const staging = yield* fs.makeTempDirectoryScoped({ directory: cache, prefix: `${part}-` })
  // Maven writes beside the pom
  yield* fs.copyFile(pom, path.join(staging, "pom.xml"))
  const files = path.join(staging, "files")
  yield* Process.run({
    part,
    command: ["mvn", "-q", "-B", ...(yield* MavenProxy.flags), "-f", "pom.xml", goals[part], "-DoutputDirectory=files"],
    folder: staging,
    // in the locale C Java cannot open a folder with a non-ASCII name
    env: { LC_ALL: "C.UTF-8" },
    environment: "user",
    log: path.join(cache, `${part}-fetch.log`)
  }).pipe(
    // another process may have been downloading the same file
    Effect.retry({ times: 1 }),
    oneAtATime.withPermits(1),
    Effect.mapError((error) =>
      new LocalStackError({
        part,
        problem: `Maven could not download it: ${error.problem}`,
        wayOut: `${waysOn(variable)} Behind a proxy, set https_proxy or ~/.m2/settings.xml.`
      })
    )
  )
  yield* fs.rename(files, folder).pipe(
    Effect.catchAll((error) => Effect.flatMap(fs.exists(folder), (there) => there ? Effect.void : Effect.fail(error)))
  )
  return folder
}, Effect.scoped)
