import { FileSystem, Path } from "@effect/platform"
import { Effect } from "effect"
import { scopes } from "../domain/Scope.js"
import * as TokenFile from "../infra/auth/TokenFile.js"
import * as Authority from "../local/Authority.js"
import type { ServerTls } from "../local/Server.js"

/** Files of a new authority, for servers on this machine and for those who call them. */
export interface LocalTls {
  /** For PostgreSQL, Redis and Kafka. */
  readonly servers: ServerTls
  /** Variables of the services and commands, without the addresses of the servers: they encrypt, and ask for a token. */
  readonly variables: Readonly<Record<string, string>>
}

/**
 * Makes an authority, a certificate for this machine, and a token with all scopes. Writes them into the folder, readable for
 * this user alone, and replaces older ones. The key of the authority is stored nowhere.
 */
export const make = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const authority = Authority.make("Payments on this machine")
  const own = authority.issue({ names: ["localhost", "127.0.0.1", "::1"] })
  const { line, token } = TokenFile.create("developer", scopes)
  yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 })
  const write = Effect.fnUntraced(function*(name: string, content: string) {
    const file = path.join(folder, name)
    // a file keeps its mode when it is only written again
    yield* fs.remove(file, { force: true })
    yield* fs.writeFileString(file, content, { mode: 0o600 })
    return file
  })
  const [ca, certificate, key, tokens, tokenFile] = [
    yield* write("authority.pem", authority.certificate),
    yield* write("certificate.pem", own.certificate),
    yield* write("key.pem", own.key),
    yield* write("grpc-tokens", `${line}\n`),
    yield* write("grpc-token", `${token}\n`)
  ]
  return {
    servers: { certificate: own.certificate, key: own.key, authority: authority.certificate },
    variables: {
      KAFKA_TLS: "true",
      KAFKA_TLS_CA: ca,
      REDIS_TLS_CA: ca,
      GRPC_TLS_CERT: certificate,
      GRPC_TLS_KEY: key,
      GRPC_AUTH: "token",
      GRPC_TOKENS_FILE: tokens,
      GRPC_TLS_CA: ca,
      GRPC_TOKEN_FILE: tokenFile
    }
  } satisfies LocalTls
})
