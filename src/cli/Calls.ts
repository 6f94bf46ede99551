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
  const isImplied = [grpcTlsCa, grpcTlsServerName, grpcTlsClientCert].some(Option.isSome)
  if (!Option.getOrElse(grpcTls, () => isImplied)) return undefined
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
  const token = Secret.of({
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
