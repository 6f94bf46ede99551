import { scopes } from "../domain/Scope.js"
import * as Certificates from "../infra/grpc/auth/Certificates.js"
import {
  address,
  flag,
  integer,
  oneOf,
  optionalSetting,
  setting,
  showAddress,
  showUrl,
  text,
  token,
  url
} from "../infra/runtime/Setting.js"

/** The settings of the gRPC server, of the commands that call it, and of operations HTTP. */
export const servers = {
  grpcAddr: setting("GRPC_ADDR", address, {
    about: "Address of the gRPC server, for `serve` to listen on and for `pay`, `refuse` and `payment` to call.",
    default: "127.0.0.1:8081",
    example: "0.0.0.0:8081",
    show: showAddress
  }),
  grpcTlsCert: optionalSetting("GRPC_TLS_CERT", text, {
    about:
      "PEM file with the certificate of the gRPC server and its chain ([docs/security.md](docs/security.md#grpc)). Empty: no TLS.",
    example: "/run/secrets/grpc.crt"
  }),
  grpcTlsKey: optionalSetting("GRPC_TLS_KEY", text, {
    about: "PEM file with the key of that certificate. Both files are read again when they are replaced.",
    example: "/run/secrets/grpc.key"
  }),
  grpcTlsClientCa: optionalSetting("GRPC_TLS_CLIENT_CA", text, {
    about: "PEM file with the authorities of client certificates: a client without one is refused (mutual TLS).",
    example: "/run/secrets/clients-ca.crt"
  }),
  grpcAuth: setting("GRPC_AUTH", oneOf("none", "certificate", "token", "jwt"), {
    about: "How the gRPC server authenticates callers: `none`, `certificate`, `token` or `jwt`.",
    default: "none",
    example: "token"
  }),
  grpcAuthCertificateNames: optionalSetting("GRPC_AUTH_CERTIFICATE_NAMES", Certificates.names(scopes), {
    about:
      "With `certificate`: the names of client certificates and their scopes, `name=scope+scope`, comma-separated.",
    example: "orders.internal=payments:read+payments:settle",
    show: (names) => [...names.values()].map(({ name, scopes }) => `${name}=${[...scopes].join("+")}`).join(",")
  }),
  grpcTokensFile: optionalSetting("GRPC_TOKENS_FILE", text, {
    about: "With `token`: file with a line `name scopes sha256` for each token; `payments token create` makes one.",
    example: "/run/secrets/grpc-tokens"
  }),
  grpcJwksUrl: optionalSetting("GRPC_JWKS_URL", url("https:", "http:", "file:"), {
    about: "With `jwt`: the key set (JWKS) of the issuer, as a URL or a `file:` URL.",
    example: "https://issuer.example/.well-known/jwks.json",
    show: showUrl
  }),
  grpcJwtIssuer: optionalSetting("GRPC_JWT_ISSUER", text, {
    about: "With `jwt`: the issuer (`iss`) of the tokens.",
    example: "https://issuer.example/"
  }),
  grpcJwtAudience: optionalSetting("GRPC_JWT_AUDIENCE", text, {
    about: "With `jwt`: the audience (`aud`) of the tokens.",
    example: "payments"
  }),
  grpcCallsPerSecond: optionalSetting("GRPC_CALLS_PER_SECOND", integer(1, 1_000_000), {
    about: "Most gRPC calls a second of one caller, or of one address without a caller's name. Empty: no limit.",
    example: "200"
  }),
  grpcTls: optionalSetting("GRPC_TLS", flag, {
    about:
      "Commands call the gRPC server with TLS. Default: they do when `GRPC_TLS_CA`, `GRPC_TLS_SERVER_NAME` or `GRPC_TLS_CLIENT_CERT` is set.",
    example: "true"
  }),
  grpcTlsCa: optionalSetting("GRPC_TLS_CA", text, {
    about: "PEM file with the authorities that commands trust. Empty: the root certificates of Node.",
    example: "/run/secrets/ca.crt"
  }),
  grpcTlsServerName: optionalSetting("GRPC_TLS_SERVER_NAME", text, {
    about: "Name that commands expect in the certificate of the gRPC server. Empty: the host of `GRPC_ADDR`.",
    example: "payments.internal"
  }),
  grpcTlsClientCert: optionalSetting("GRPC_TLS_CLIENT_CERT", text, {
    about: "PEM file with the client certificate of commands.",
    example: "/run/secrets/client.crt"
  }),
  grpcTlsClientKey: optionalSetting("GRPC_TLS_CLIENT_KEY", text, {
    about: "PEM file with the key of that certificate.",
    example: "/run/secrets/client.key"
  }),
  grpcToken: optionalSetting("GRPC_TOKEN", token, {
    about: "Token that commands send to the gRPC server: with TLS, or to the loopback address.",
    example: "pay_a-token-of-payments-token-create"
  }),
  grpcTokenFile: optionalSetting("GRPC_TOKEN_FILE", text, {
    about: "File with that token, instead of `GRPC_TOKEN`.",
    example: "/run/secrets/grpc-token"
  }),
  grpcUseProxy: setting("GRPC_USE_PROXY", flag, {
    about: "Let `pay`, `refuse` and `payment` call other machines through the proxy of the environment.",
    default: "false",
    example: "true"
  }),
  httpAddr: setting("HTTP_ADDR", address, {
    about: "Address of operations HTTP (`/livez`, `/startedz`, `/readyz`, `/readyz/<role>`, `/metrics`, the console).",
    default: "127.0.0.1:8082",
    example: "0.0.0.0:8082",
    show: showAddress
  }),
  httpTlsCert: optionalSetting("HTTP_TLS_CERT", text, {
    about: "PEM file with the certificate of operations HTTP and its chain. Empty: no TLS.",
    example: "/run/secrets/http.crt"
  }),
  httpTlsKey: optionalSetting("HTTP_TLS_KEY", text, {
    about: "PEM file with the key of that certificate. Both files are read again when they are replaced.",
    example: "/run/secrets/http.key"
  }),
  insecure: setting("INSECURE", flag, {
    about:
      "Other machines may reach `GRPC_ADDR` and `HTTP_ADDR` without TLS and authentication ([docs/security.md](docs/security.md#safe-by-default)).",
    default: "false"
  }),
  adminToken: optionalSetting("ADMIN_TOKEN", token, {
    about:
      "Token of the operations API on `HTTP_ADDR` ([docs/operations.md](docs/operations.md#the-operations-api)), at least 16 characters. Empty: the API and the console are off.",
    example: "a-long-random-text"
  }),
  adminTokenFile: optionalSetting("ADMIN_TOKEN_FILE", text, {
    about: "File with that token, instead of `ADMIN_TOKEN`.",
    example: "/run/secrets/payments-admin-token"
  }),
  adminTokensFile: optionalSetting("ADMIN_TOKENS_FILE", text, {
    about:
      "File with a line `name scopes sha256` for each token of the operations API that has an owner; `payments token create` makes one.",
    example: "/run/secrets/payments-admin-tokens"
  })
}
