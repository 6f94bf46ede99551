import { FileSystem } from "@effect/platform"
import { Effect, Either, Option } from "effect"
import * as AdminApi from "../admin/AdminApi.js"
import { readSettings } from "../Config.js"
import * as Setting from "../infra/runtime/Setting.js"
import { ConfigProblems } from "../infra/runtime/Setting.js"
import { sources, used } from "./Sources.js"

const problem = (variable: string, problem: string) =>
  new ConfigProblems({
    problems: [{ variable, problem, example: variable === "ADMIN_TOKEN" ? "" : "/run/secrets/payments-admin-token" }]
  })

/** The token in the environment or in its file. Fails with `ConfigProblems` for both, and for a file without a token. */
const token = Effect.gen(function*() {
  const { adminToken, adminTokenFile } = yield* readSettings("adminToken", "adminTokenFile")
  if (Option.isNone(adminTokenFile)) return adminToken
  if (Option.isSome(adminToken)) return yield* problem("ADMIN_TOKEN", "is set beside ADMIN_TOKEN_FILE: set one of them")
  const fs = yield* FileSystem.FileSystem
  const content = yield* fs.readFileString(adminTokenFile.value).pipe(
    Effect.mapError((error) => problem("ADMIN_TOKEN_FILE", `cannot be read: ${error.message}`))
  )
  return yield* Either.match(Setting.token(content), {
    onLeft: (why) => problem("ADMIN_TOKEN_FILE", `names a file whose content ${why}`),
    onRight: (found) => Effect.succeed(Option.some(found))
  })
})

/** The operations API for the life of the scope; undefined without a token. */
export const app = Effect.gen(function*() {
  const admin = yield* token
  if (Option.isNone(admin)) return undefined
  const config = yield* readSettings(...used)
  return yield* AdminApi.app(sources(config), admin.value)
})
