import { Effect, Option } from "effect"
import * as AdminApi from "../admin/AdminApi.js"
import { readSettings } from "../Config.js"
import { scopes } from "../domain/Scope.js"
import * as TokenFile from "../infra/auth/TokenFile.js"
import * as Secret from "../infra/runtime/Secret.js"
import * as Setting from "../infra/runtime/Setting.js"
import { sources, used } from "./Sources.js"

/** The token without a name, and those of the file; undefined when there are none. */
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
  if (Option.isNone(unnamed) && Option.isNone(adminTokensFile)) return undefined
  const named = Option.isNone(adminTokensFile)
    ? undefined
    : yield* TokenFile.make({ file: adminTokensFile.value, variable: "ADMIN_TOKENS_FILE", scopes })
  return { unnamed: Option.getOrUndefined(unnamed), named: named?.find }
})

/** The operations API for the life of the scope; undefined without a token. */
export const app = Effect.gen(function*() {
  const found = yield* tokens
  if (found === undefined) return undefined
  const config = yield* readSettings(...used)
  return yield* AdminApi.app(sources(config), found)
})
