import { Effect, Option } from "effect"
import * as AdminApi from "../admin/AdminApi.js"
import { readSettings } from "../Config.js"
import * as Secret from "../infra/runtime/Secret.js"
import * as Setting from "../infra/runtime/Setting.js"
import { sources, used } from "./Sources.js"

/** The token of `ADMIN_TOKEN` or of the file in `ADMIN_TOKEN_FILE`. */
const token = Effect.flatMap(
  readSettings("adminToken", "adminTokenFile"),
  ({ adminToken, adminTokenFile }) =>
    Secret.choose({ variable: "ADMIN_TOKEN", value: adminToken, file: adminTokenFile, parse: Setting.token })
)

/** The operations API for the life of the scope; undefined without a token. */
export const app = Effect.gen(function*() {
  const admin = yield* token
  if (Option.isNone(admin)) return undefined
  const config = yield* readSettings(...used)
  return yield* AdminApi.app(sources(config), admin.value)
})
