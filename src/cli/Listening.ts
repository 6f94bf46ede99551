import { Effect, Option, Redacted } from "effect"
import type { ConfigOf } from "../Config.js"
import { scopes } from "../domain/Scope.js"
import * as Certificates from "../infra/grpc/auth/Certificates.js"
import * as Jwt from "../infra/grpc/auth/Jwt.js"
import type { KeysUnavailable } from "../infra/grpc/auth/KeySet.js"
import * as Tokens from "../infra/grpc/auth/Tokens.js"
import type { AccessOptions } from "../infra/grpc/GrpcAccess.js"
import { isLoopback } from "../infra/runtime/Loopback.js"
import { problemOf } from "../infra/runtime/Problem.js"
import type { Address } from "../infra/runtime/Setting.js"
import { ConfigProblems, showAddress } from "../infra/runtime/Setting.js"
import type { TlsServerFiles } from "../infra/tls/TlsServer.js"
import * as TlsServer from "../infra/tls/TlsServer.js"
import type { Role } from "../ops/Parts.js"
import * as Parts from "../ops/Parts.js"

/** The settings of operations HTTP. */
export const httpUsed = ["httpAddr", "httpTlsCert", "httpTlsKey", "insecure"] as const
export type HttpConfig = ConfigOf<(typeof httpUsed)[number]>

/** The settings of the gRPC server. */
export const grpcUsed = [
  "grpcAddr",
  "grpcTlsCert",
  "grpcTlsKey",
  "grpcTlsClientCa",
  "grpcAuth",
  "grpcAuthCertificateNames",
  "grpcTokensFile",
  "grpcJwksUrl",
  "grpcJwtIssuer",
  "grpcJwtAudience",
  "grpcCallsPerSecond",
  "insecure"
] as const
export type GrpcConfig = ConfigOf<(typeof grpcUsed)[number]>

const files = (prefix: string, cert: Option.Option<string>, key: Option.Option<string>): TlsServerFiles | undefined =>
  Option.isSome(cert) && Option.isSome(key) ? { prefix, cert: cert.value, key: key.value } : undefined

/** The TLS files of operations HTTP; undefined without TLS. */
export const httpTls = ({ httpTlsCert, httpTlsKey }: ConfigOf<"httpTlsCert" | "httpTlsKey">) =>
  files("HTTP_TLS", httpTlsCert, httpTlsKey)

/** The TLS files of the gRPC server; undefined without TLS. */
export const grpcTls = (
  { grpcTlsCert, grpcTlsClientCa, grpcTlsKey }: ConfigOf<"grpcTlsCert" | "grpcTlsKey" | "grpcTlsClientCa">
): TlsServerFiles | undefined => {
  const own = files("GRPC_TLS", grpcTlsCert, grpcTlsKey)
  return own === undefined ? undefined : { ...own, clientCa: Option.getOrUndefined(grpcTlsClientCa) }
}

/** Reports each load of the issuer's keys to its part. */
const reportKeys = Effect.map(
  Parts.part("grpc-keys"),
  (part) => (failure: KeysUnavailable | undefined) =>
    failure === undefined ? part.working() : part.failed(problemOf(failure, "issuer"))
)

/**
 * The authentication and the limits of the gRPC server, for the life of the scope. `check` has passed. With an issuer of tokens
 * it fails with `KeysUnavailable` until the issuer has given its keys once; after that, part `grpc-keys` has its failures.
 */
export const access = Effect.fnUntraced(function*(config: GrpcConfig) {
  const callsPerSecond = Option.getOrUndefined(config.grpcCallsPerSecond)
  const { grpcAuth, grpcAuthCertificateNames, grpcJwksUrl, grpcJwtAudience, grpcJwtIssuer, grpcTokensFile } = config
  const authenticator = grpcAuth === "certificate"
    ? Certificates.make(Option.getOrThrow(grpcAuthCertificateNames))
    : grpcAuth === "token"
    ? yield* Tokens.make({ file: Option.getOrThrow(grpcTokensFile), variable: "GRPC_TOKENS_FILE", scopes })
    : grpcAuth === "jwt"
    ? yield* Jwt.make({
      keys: new URL(Redacted.value(Option.getOrThrow(grpcJwksUrl))),
      variable: "GRPC_JWKS_URL",
      onLoad: yield* reportKeys,
      issuer: Option.getOrThrow(grpcJwtIssuer),
      audience: Option.getOrThrow(grpcJwtAudience)
    })
    : undefined
  return { authenticator, callsPerSecond } satisfies AccessOptions
})

/** A server that other machines reach, and what it lacks. */
interface Open {
  readonly server: "gRPC" | "HTTP"
  readonly variable: string
  readonly address: Address
  readonly lacks: string
  readonly risk: string
}

const openServers = (config: HttpConfig & GrpcConfig, hasGrpc: boolean): ReadonlyArray<Open> => {
  const open: Array<Open> = []
  const mutual = hasGrpc && Option.isSome(config.grpcTlsClientCa)
  const lacks = [
    ...(hasGrpc && grpcTls(config) === undefined ? ["TLS (GRPC_TLS_CERT, GRPC_TLS_KEY)"] : []),
    ...(hasGrpc && config.grpcAuth === "none" && !mutual ? ["authentication (GRPC_AUTH)"] : [])
  ].join(" and without ")
  if (hasGrpc && !isLoopback(config.grpcAddr.host) && lacks !== "") {
    const risk = "an attacker who reaches it can settle payments, or read and change calls on their way"
    open.push({ server: "gRPC", variable: "GRPC_ADDR", address: config.grpcAddr, lacks, risk })
  }
  if (!isLoopback(config.httpAddr.host) && httpTls(config) === undefined) {
    const risk = "an attacker on the way can read ADMIN_TOKEN"
    open.push({
      server: "HTTP",
      variable: "HTTP_ADDR",
      address: config.httpAddr,
      lacks: "TLS (HTTP_TLS_CERT, HTTP_TLS_KEY)",
      risk
    })
  }
  return open
}

/**
 * Checks that the TLS files of the servers of these roles can be used. Fails with `ConfigProblems` where a server would be open to
 * other machines without TLS or authentication, unless INSECURE allows it: then the log has a warning for each.
 */
export const check = Effect.fnUntraced(function*(config: HttpConfig & GrpcConfig, running: ReadonlyArray<Role>) {
  const hasGrpc = running.includes("grpc")
  const open = openServers(config, hasGrpc)
  const problems = config.insecure ? [] : open.map(({ address, lacks, variable }) => ({
    variable,
    problem: `is ${
      showAddress(address)
    }, which other machines reach, without ${lacks}: set that, or INSECURE=true if it is meant`,
    example: `127.0.0.1:${address.port}`
  }))
  if (problems.length > 0) return yield* new ConfigProblems({ problems })
  yield* Effect.forEach(
    [httpTls(config), ...(hasGrpc ? [grpcTls(config)] : [])].filter((files) => files !== undefined),
    TlsServer.load,
    { discard: true }
  )
  yield* Effect.forEach(
    open,
    ({ address, lacks, risk, server }) =>
      Effect.logWarning(`INSECURE=true: ${server} at ${showAddress(address)} is without ${lacks}: ${risk}`),
    {
      discard: true
    }
  )
})
