import { FileSystem, Path } from "@effect/platform"
import { Effect, Option } from "effect"
import { LocalStackError } from "./LocalStackError.js"
import { loopback } from "./Ports.js"
import * as PostgresPid from "./PostgresPid.js"
import type { PostgresPrograms } from "./PostgresPrograms.js"
import { locate } from "./PostgresPrograms.js"
import type { User } from "./Privileges.js"
import { runAs, unprivileged } from "./Privileges.js"
import * as Process from "./Process.js"
import type { Place } from "./Server.js"
import { serve, tlsFiles } from "./Server.js"

/** Variables for initdb, whose shell expands `$name` in paths: each name in the path expands to itself. */
const literally = (path: string) =>
  Object.fromEntries(Array.from(path.matchAll(/\$([A-Za-z_]\w*)/g), ([whole, name]) => [name!, whole]))

/** Creates the cluster with its user and database in a staging folder, and moves it to `data` when it is complete. */
const initialise = Effect.fnUntraced(function*(
  place: Place,
  data: string,
  programs: PostgresPrograms,
  user: Option.Option<User>,
  prefix: ReadonlyArray<string>
) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const staging = path.join(place.folder, "new")
  const cluster = path.join(staging, "data")
  const password = path.join(staging, "password")
  yield* fs.remove(staging, { recursive: true, force: true })
  yield* fs.makeDirectory(cluster, { recursive: true })
  yield* fs.writeFileString(password, "payments\n")
  if (Option.isSome(user)) {
    const { gid, uid } = user.value
    yield* Effect.forEach([cluster, password], (file) => fs.chown(file, uid, gid), { discard: true })
  }
  const run = (command: ReadonlyArray<string>, input?: string) =>
    Process.run({
      part: "postgres",
      prefix,
      command,
      env: literally(programs.initdb),
      log: place.log,
      ...(input === undefined ? {} : { input })
    })
  yield* run([
    programs.initdb,
    `--pgdata=${cluster}`,
    "--username=payments",
    `--pwfile=${password}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C"
  ])
  yield* run(
    [programs.postgres, "--single", "-c", "exit_on_error=on", "-D", cluster, "postgres"],
    "CREATE DATABASE payments\n"
  )
  yield* fs.rename(cluster, data)
  yield* fs.remove(staging, { recursive: true })
})

/** A server reads only the data of its own major version. */
const checkVersion = Effect.fnUntraced(function*(data: string, version: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const wrote = (yield* fs.readFileString(path.join(data, "PG_VERSION"))).trim()
  if (version.split(".")[0] !== wrote) {
    return yield* new LocalStackError({
      part: "postgres",
      problem: `the data in ${data} belongs to PostgreSQL ${wrote}, and the server is PostgreSQL ${version}`,
      wayOut: `Put PostgreSQL ${wrote} on PATH. Or delete the data: payments local reset.`
    })
  }
})

/**
 * PostgreSQL on the loopback addresses, as durable as in production. User, password and database are `payments`. If this
 * process is root, the server runs as another user.
 */
export const start = Effect.fnUntraced(function*(place: Place) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const data = path.join(place.folder, "data")
  const programs = yield* locate
  const user = yield* unprivileged(data)
  const prefix = Option.isSome(user) ? yield* runAs(user.value) : []
  yield* place.progress("starting", `PostgreSQL ${programs.version} on port ${place.port}`)

  if (yield* fs.exists(data)) {
    yield* checkVersion(data, programs.version)
    yield* PostgresPid.clear(data)
  } else {
    yield* initialise(place, data, programs, user, prefix)
  }
  const settings = [
    // numeric addresses: the name localhost may be missing or point elsewhere
    `listen_addresses=${loopback().join(",")}`,
    "unix_socket_directories=",
    "max_connections=200",
    // the default of 128 MB suits small machines; unused buffers take no memory
    "shared_buffers=512MB"
  ]
  const files = place.tls === undefined ? undefined : yield* tlsFiles(place, place.tls, user)
  if (files !== undefined) {
    const hba = path.join(place.folder, "tls", "pg_hba.conf")
    yield* fs.writeFileString(hba, "hostssl all all all scram-sha-256\n")
    settings.push(
      "ssl=on",
      `ssl_cert_file=${files.certificate}`,
      `ssl_key_file=${files.key}`,
      `ssl_ca_file=${files.authority}`,
      `hba_file=${hba}`
    )
  }
  const encrypted = files === undefined
    ? ""
    : `?sslmode=verify-full&sslrootcert=${encodeURIComponent(files.authority)}`
  return yield* serve(place, {
    part: "postgres",
    prefix,
    command: [
      programs.postgres,
      "-D",
      data,
      "-p",
      String(place.port),
      ...settings.flatMap((setting) => ["-c", setting])
    ],
    log: place.log
  }, {
    url: `postgres://payments:payments@127.0.0.1:${place.port}/payments${encrypted}`,
    // immediate, or fast shutdown
    stop: place.throwaway ? "SIGQUIT" : "SIGINT",
    // its first start writes to the disk, which other programs may keep busy
    within: "90 seconds"
  })
})
