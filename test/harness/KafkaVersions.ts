import * as NodeContext from "@effect/platform-node/NodeContext"
import { Effect } from "effect"
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as Fetch from "../../src/local/Fetch.js"
import * as MavenProxy from "../../src/local/MavenProxy.js"

const run = promisify(execFile)
const cache = fileURLToPath(new URL("../../.local/cache", import.meta.url))
const pom = fileURLToPath(new URL("../../src/local/pom.xml", import.meta.url))

/** The version of the local stack. */
const present = "4.1.1"
/** The version to which brokers are upgraded. */
export const next = "4.4.0"

/** The folder with the jars of the local stack's version. */
export const libraries = Fetch.fetched("kafka", "KAFKA_BROKERS", cache, Effect.void).pipe(
  Effect.provide(NodeContext.layer)
)

/** The folder with the jars of the next version. Maven fetches them once into the cache: 54 MB. It appears complete or not at all. */
export const nextLibraries = Effect.gen(function*() {
  const folder = join(cache, `kafka-${next}`)
  if (existsSync(folder)) return folder
  const flags = yield* MavenProxy.flags
  yield* Effect.promise(async (signal) => {
    mkdirSync(cache, { recursive: true })
    const staging = mkdtempSync(join(cache, "kafka-"))
    try {
      writeFileSync(join(staging, "pom.xml"), readFileSync(pom, "utf8").replaceAll(present, next))
      const goal = ["dependency:copy-dependencies", "-DoutputDirectory=files"]
      await run("mvn", ["-q", "-B", ...flags, "-f", "pom.xml", ...goal], { cwd: staging, timeout: 300_000, signal })
      if (!existsSync(join(staging, "files", `kafka_2.13-${next}.jar`))) {
        throw new Error(`${pom} has no Kafka ${present}`)
      }
      renameSync(join(staging, "files"), folder)
    } finally {
      rmSync(staging, { recursive: true, force: true })
    }
  })
  return folder
})

/** Runs a tool of Kafka, by the name of its class, to its end. Returns what it prints. Dies when it fails. */
export const tool = (folder: string, name: string, ...args: ReadonlyArray<string>) =>
  Effect.promise((signal) =>
    run("java", ["-XX:TieredStopAtLevel=1", "-cp", `${folder}/*`, name, ...args], { timeout: 60_000, signal })
  ).pipe(Effect.map(({ stdout }) => stdout))
