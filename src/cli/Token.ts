import { Command, Options } from "@effect/cli"
import { Either } from "effect"
import { scopes } from "../domain/Scope.js"
import { isName } from "../infra/auth/Caller.js"
import * as TokenFile from "../infra/auth/TokenFile.js"
import type { Parse } from "../infra/runtime/Setting.js"
import { list } from "../infra/runtime/Setting.js"
import { option } from "./Flags.js"
import { json, print } from "./Output.js"

const name: Parse<string> = (text) =>
  isName(text) && !/\s/.test(text) ? Either.right(text) : Either.left("is not a word of 1 to 200 characters")

const known: Parse<ReadonlyArray<string>> = (text) =>
  Either.flatMap(list(text), (items) => {
    const unknown = items.find((item) => !(scopes as ReadonlyArray<string>).includes(item))
    return unknown === undefined
      ? Either.right([...new Set(items)])
      : Either.left(`has the scope ${JSON.stringify(unknown)}: the scopes are ${scopes.join(", ")}`)
  })

const create = Command.make("create", {
  name: option("name", name, "name").pipe(
    Options.withDescription(
      "Name of the caller: stored with each payment that it settles, and with each of its repairs"
    )
  ),
  scopes: option("scopes", known, "scopes").pipe(
    Options.withDescription(`What the caller may do, comma-separated: ${scopes.join(", ")}`)
  ),
  json
}, ({ json, name, scopes }) => {
  const { line, token } = TokenFile.create(name, scopes)
  return print(
    json,
    { token, line },
    [
      `token   ${token}`,
      `line    ${line}`,
      "",
      "Give the token to the caller (GRPC_TOKEN_FILE): it is not shown again. Add the line to the file in GRPC_TOKENS_FILE",
      "of the servers (gRPC), or in ADMIN_TOKENS_FILE (operations API). The file has no token, only its hash. To revoke the",
      "token, delete the line."
    ].join("\n")
  )
}).pipe(Command.withDescription("Make a token for a caller of the gRPC server, or of the operations API"))

/** `payments token`. */
export const command = Command.make("token").pipe(
  Command.withDescription("Tokens of callers of the gRPC server and of the operations API"),
  Command.withSubcommands([create])
)
