import type { FileSystem } from "@effect/platform"
import { Effect, Option } from "effect"
import { readFileSync } from "node:fs"
import * as AdminApi from "../admin/AdminApi.js"
import { readSettings, settings } from "../Config.js"
import * as Pages from "../console/Pages.js"
import type { DoctorOptions } from "../doctor/Doctor.js"
import * as Doctor from "../doctor/Doctor.js"
import { scopes } from "../domain/Scope.js"
import * as TokenFile from "../infra/auth/TokenFile.js"
import type * as Postgres from "../infra/postgres/Postgres.js"
import * as Secret from "../infra/runtime/Secret.js"
import * as Setting from "../infra/runtime/Setting.js"
import type { ConsoleApp } from "../ops/Http.js"
import type { Sequences } from "../payments/Sequences.js"
import * as Paths from "./Paths.js"
import { sources, used } from "./Sources.js"

/** The token without a name, and those of the file. */
const tokens = Effect.gen(function*() {
  const { adminToken, adminTokenFile, adminTokensFile } = yield* readSettings(
    "adminToken",
    "adminTokenFile",
    "adminTokensFile"
  )
  const unnamed = Secret.of({
    variable: "ADMIN_TOKEN",
    value: adminToken,
    file: adminTokenFile,
    parse: Setting.token
  })
  const named = Option.isNone(adminTokensFile)
    ? undefined
    : yield* TokenFile.make({ file: adminTokensFile.value, variable: "ADMIN_TOKENS_FILE", scopes })
  return { unnamed: Option.getOrUndefined(unnamed), named: named?.find } as const
})

export interface ConsoleOptions {
  /** The server speaks TLS. */
  readonly tls: boolean
  /** The local stack of `npm start`, on a loopback address. */
  readonly local: boolean
  /** The process serves nothing but the console. */
  readonly needed: boolean
  /** What its doctor checks. */
  readonly doctor: DoctorOptions
}

const { version } = JSON.parse(readFileSync(Paths.packageJson, "utf8")) as { readonly version: string }

/**
 * The operations API and the console, for the life of the scope; undefined without a token, unless the stack is local. A process
 * with nothing else to serve fails with `ConfigProblems` then.
 */
export const make = Effect.fnUntraced(function*({ doctor, local, needed, tls }: ConsoleOptions) {
  const { named, unnamed } = yield* tokens
  if (named === undefined && unnamed === undefined && !local) {
    return needed
      ? yield* Setting.ConfigProblems.one(
        settings.adminToken.name,
        "is empty, and the part console serves nothing without it or ADMIN_TOKENS_FILE",
        settings.adminToken.example
      )
      : undefined
  }
  const context = yield* Effect.context<Postgres.Database | Sequences | FileSystem.FileSystem>()
  const { app, stop } = yield* AdminApi.make({
    ...sources(yield* readSettings(...used)),
    access: { named, unnamed, local: local && named === undefined && unnamed === undefined, tls },
    examine: Effect.provide(Doctor.examine(doctor), context),
    version
  })
  return { app, stop, pages: yield* Pages.make(Paths.pages) } satisfies ConsoleApp
})
