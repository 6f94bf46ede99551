import { Effect, Option } from "effect"
import type { ConfigOf } from "../Config.js"
import { readSettings } from "../Config.js"
import * as PaymentsClient from "../grpc/PaymentsClient.js"
import * as Secret from "../infra/runtime/Secret.js"
import * as Setting from "../infra/runtime/Setting.js"
import * as Tls from "../infra/tls/Tls.js"

const used = [
  "grpcAddr",
  "grpcUseProxy",
  "grpcTls",
  "grpcTlsCa",
  "grpcTlsServerName",
  "grpcTlsClientCert",
  "grpcTlsClientKey",
  "grpcToken",
  "grpcTokenFile"
] as const

/** TLS of the client; undefined when it calls without. */
const tls = Effect.fnUntraced(function*(config: ConfigOf<(typeof used)[number]>) {
  const { grpcTls, grpcTlsCa, grpcTlsClientCert, grpcTlsClientKey, grpcTlsServerName } = config
  const named = Object.entries({
    GRPC_TLS_CA: grpcTlsCa,
    GRPC_TLS_SERVER_NAME: grpcTlsServerName,
    GRPC_TLS_CLIENT_CERT: grpcTlsClientCert,
    GRPC_TLS_CLIENT_KEY: grpcTlsClientKey
  }).filter(([, value]) => Option.isSome(value)).map(([name]) => name)
  if (Option.contains(grpcTls, false) && named.length > 0) {
    return yield* Setting.ConfigProblems.one("GRPC_TLS", `is false, and ${named.join(", ")} is set`, "true")
  }
  if (Option.isSome(grpcTlsClientCert) !== Option.isSome(grpcTlsClientKey)) {
    const [missing, given] = Option.isSome(grpcTlsClientCert)
      ? ["GRPC_TLS_CLIENT_KEY", "GRPC_TLS_CLIENT_CERT"] as const
      : ["GRPC_TLS_CLIENT_CERT", "GRPC_TLS_CLIENT_KEY"] as const
    return yield* Setting.ConfigProblems.one(
      missing,
      `is empty, and ${given} is set: it needs both`,
      "/run/secrets/client.pem"
    )
  }
  if (named.length === 0 && !Option.contains(grpcTls, true)) return undefined
  const authorities = yield* Tls.load({ prefix: "GRPC_TLS", ca: Option.getOrUndefined(grpcTlsCa) })
  const own = yield* Tls.load({
    prefix: "GRPC_TLS_CLIENT",
    cert: Option.getOrUndefined(grpcTlsClientCert),
    key: Option.getOrUndefined(grpcTlsClientKey)
  })
  return { context: { ...authorities, ...own }, serverName: Option.getOrUndefined(grpcTlsServerName) }
})

/** A gRPC client for `GRPC_ADDR`, with TLS and the token of the settings, for the life of the scope. */
export const client = Effect.gen(function*() {
  const config = yield* readSettings(...used)
  const token = yield* Secret.choose({
    variable: "GRPC_TOKEN",
    value: config.grpcToken,
    file: config.grpcTokenFile,
    parse: Setting.token
  })
  return yield* PaymentsClient.make(config.grpcAddr, {
    useProxy: config.grpcUseProxy,
    tls: yield* tls(config),
    token: Option.isNone(token) ? undefined : yield* token.value.get
  })
})
