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

type Problem = ConfigProblems["problems"][number]

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
const reportKeys = Effect.map(Parts.part("grpc-keys"), (part) => (failure: KeysUnavailable | undefined) =>
  failure === undefined ? part.working() : part.failed(problemOf(failure, "issuer")))

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

/** A problem when one of two settings is set and the other is not. */
const together = (
  [variable, value]: readonly [string, Option.Option<unknown>],
  [other, otherValue, example]: readonly [string, Option.Option<unknown>, string]
): ReadonlyArray<Problem> =>
  Option.isSome(value) && Option.isNone(otherValue)
    ? [{ variable: other, problem: `is empty, and ${variable} is set: it needs both`, example }]
    : []

/** The settings that each way of authentication needs, and that no other way uses. */
const needs = (config: GrpcConfig) =>
  [
    [
      "certificate",
      "GRPC_AUTH_CERTIFICATE_NAMES",
      config.grpcAuthCertificateNames,
      "orders.internal=payments:read+payments:settle"
    ],
    ["token", "GRPC_TOKENS_FILE", config.grpcTokensFile, "/run/secrets/grpc-tokens"],
    ["jwt", "GRPC_JWKS_URL", config.grpcJwksUrl, "https://issuer.example/.well-known/jwks.json"],
    ["jwt", "GRPC_JWT_ISSUER", config.grpcJwtIssuer, "https://issuer.example/"],
    ["jwt", "GRPC_JWT_AUDIENCE", config.grpcJwtAudience, "payments"]
  ] as const

const authProblems = (config: GrpcConfig): ReadonlyArray<Problem> => [
  ...needs(config).flatMap(([way, variable, given, example]): ReadonlyArray<Problem> => {
    const value: Option.Option<unknown> = given
    const wanted = config.grpcAuth === way
    if (wanted && Option.isNone(value)) {
      return [{ variable, problem: `is empty, and GRPC_AUTH=${way} needs it`, example }]
    }
    if (!wanted && Option.isSome(value)) {
      return [{ variable: "GRPC_AUTH", problem: `is ${config.grpcAuth}, and ${variable} is set`, example: way }]
    }
    return []
  }),
  ...(config.grpcAuth === "certificate" && Option.isNone(config.grpcTlsClientCa)
    ? [{
      variable: "GRPC_TLS_CLIENT_CA",
      problem: "is empty, and GRPC_AUTH=certificate needs the authorities of client certificates",
      example: "/run/secrets/clients-ca.crt"
    }]
    : [])
]

/** An attacker on the way can replace keys that come over HTTP, and then make tokens. */
const keysProblems = ({ grpcJwksUrl, insecure }: GrpcConfig): ReadonlyArray<Problem> => {
  const url = Option.map(grpcJwksUrl, (url) => new URL(Redacted.value(url)))
  return !insecure && Option.exists(url, ({ hostname, protocol }) => protocol === "http:" && !isLoopback(hostname))
    ? [{
      variable: "GRPC_JWKS_URL",
      problem: "gets the keys of tokens without TLS: use https:, or INSECURE=true if that is meant",
      example: "https://issuer.example/.well-known/jwks.json"
    }]
    : []
}

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
 * Checks the settings of the servers of these roles, and that their TLS files can be used. Fails with `ConfigProblems` where
 * settings contradict each other, and where a server would be open to other machines without TLS or authentication, unless
 * INSECURE allows it: then the log has a warning for each.
 */
export const check = Effect.fnUntraced(function*(config: HttpConfig & GrpcConfig, running: ReadonlyArray<Role>) {
  const hasGrpc = running.includes("grpc")
  const open = openServers(config, hasGrpc)
  const problems: ReadonlyArray<Problem> = [
    ...together(["HTTP_TLS_CERT", config.httpTlsCert], ["HTTP_TLS_KEY", config.httpTlsKey, "/run/secrets/http.key"]),
    ...together(["HTTP_TLS_KEY", config.httpTlsKey], ["HTTP_TLS_CERT", config.httpTlsCert, "/run/secrets/http.crt"]),
    ...(hasGrpc
      ? [
        ...together(["GRPC_TLS_CERT", config.grpcTlsCert], [
          "GRPC_TLS_KEY",
          config.grpcTlsKey,
          "/run/secrets/grpc.key"
        ]),
        ...together(["GRPC_TLS_KEY", config.grpcTlsKey], [
          "GRPC_TLS_CERT",
          config.grpcTlsCert,
          "/run/secrets/grpc.crt"
        ]),
        ...together(["GRPC_TLS_CLIENT_CA", config.grpcTlsClientCa], [
          "GRPC_TLS_CERT",
          config.grpcTlsCert,
          "/run/secrets/grpc.crt"
        ]),
        ...authProblems(config),
        ...keysProblems(config)
      ]
      : []),
    ...(config.insecure ? [] : open.map(({ address, lacks, variable }) => ({
      variable,
      problem: `is ${
        showAddress(address)
      }, which other machines reach, without ${lacks}: set that, or INSECURE=true if it is meant`,
      example: `127.0.0.1:${address.port}`
    })))
  ]
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
