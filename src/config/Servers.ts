import { scopes } from "../domain/Scope.js"
import * as Certificates from "../infra/grpc/auth/Certificates.js"
import {
  address,
  flag,
  integer,
  oneOf,
  optional,
  setting,
  showAddress,
  showOptional,
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
  grpcTlsCert: setting("GRPC_TLS_CERT", optional(text), {
    about:
      "PEM file with the certificate of the gRPC server and its chain ([docs/security.md](docs/security.md#grpc)). Empty: no TLS.",
    default: "",
    example: "/run/secrets/grpc.crt",
    show: showOptional(String)
  }),
  grpcTlsKey: setting("GRPC_TLS_KEY", optional(text), {
    about: "PEM file with the key of that certificate. Both files are read again when they are replaced.",
    default: "",
    example: "/run/secrets/grpc.key",
    show: showOptional(String)
  }),
  grpcTlsClientCa: setting("GRPC_TLS_CLIENT_CA", optional(text), {
    about: "PEM file with the authorities of client certificates: a client without one is refused (mutual TLS).",
    default: "",
    example: "/run/secrets/clients-ca.crt",
    show: showOptional(String)
  }),
  grpcAuth: setting("GRPC_AUTH", oneOf("none", "certificate", "token", "jwt"), {
    about: "How the gRPC server authenticates callers: `none`, `certificate`, `token` or `jwt`.",
    default: "none",
    example: "token"
  }),
  grpcAuthCertificateNames: setting("GRPC_AUTH_CERTIFICATE_NAMES", optional(Certificates.names(scopes)), {
    about:
      "With `certificate`: the names of client certificates and their scopes, `name=scope+scope`, comma-separated.",
    default: "",
    example: "orders.internal=payments:read+payments:settle",
    show: showOptional((names) =>
      [...names.values()].map(({ name, scopes }) => `${name}=${[...scopes].join("+")}`).join(",")
    )
  }),
  grpcTokensFile: setting("GRPC_TOKENS_FILE", optional(text), {
    about: "With `token`: file with a line `name scopes sha256` for each token; `payments token create` makes one.",
    default: "",
    example: "/run/secrets/grpc-tokens",
    show: showOptional(String)
  }),
  grpcJwksUrl: setting("GRPC_JWKS_URL", optional(url("https:", "http:", "file:")), {
    about: "With `jwt`: the key set (JWKS) of the issuer, as a URL or a `file:` URL.",
    default: "",
    example: "https://issuer.example/.well-known/jwks.json",
    show: showOptional(showUrl)
  }),
  grpcJwtIssuer: setting("GRPC_JWT_ISSUER", optional(text), {
    about: "With `jwt`: the issuer (`iss`) of the tokens.",
    default: "",
    example: "https://issuer.example/",
    show: showOptional(String)
  }),
  grpcJwtAudience: setting("GRPC_JWT_AUDIENCE", optional(text), {
    about: "With `jwt`: the audience (`aud`) of the tokens.",
    default: "",
    example: "payments",
    show: showOptional(String)
  }),
  grpcCallsPerSecond: setting("GRPC_CALLS_PER_SECOND", optional(integer(1, 1_000_000)), {
    about: "Most gRPC calls a second of one caller, or of one address without a caller's name. Empty: no limit.",
    default: "",
    example: "200",
    show: showOptional(String)
  }),
  grpcTls: setting("GRPC_TLS", optional(flag), {
    about:
      "Commands call the gRPC server with TLS. Default: they do when `GRPC_TLS_CA`, `GRPC_TLS_SERVER_NAME` or `GRPC_TLS_CLIENT_CERT` is set.",
    default: "",
    example: "true",
    show: showOptional(String)
  }),
  grpcTlsCa: setting("GRPC_TLS_CA", optional(text), {
    about: "PEM file with the authorities that commands trust. Empty: the root certificates of Node.",
    default: "",
    example: "/run/secrets/ca.crt",
    show: showOptional(String)
  }),
  grpcTlsServerName: setting("GRPC_TLS_SERVER_NAME", optional(text), {
    about: "Name that commands expect in the certificate of the gRPC server. Empty: the host of `GRPC_ADDR`.",
    default: "",
    example: "payments.internal",
    show: showOptional(String)
  }),
  grpcTlsClientCert: setting("GRPC_TLS_CLIENT_CERT", optional(text), {
    about: "PEM file with the client certificate of commands.",
    default: "",
    example: "/run/secrets/client.crt",
    show: showOptional(String)
  }),
  grpcTlsClientKey: setting("GRPC_TLS_CLIENT_KEY", optional(text), {
    about: "PEM file with the key of that certificate.",
    default: "",
    example: "/run/secrets/client.key",
    show: showOptional(String)
  }),
  grpcToken: setting("GRPC_TOKEN", optional(token), {
    about: "Token that commands send to the gRPC server: with TLS, or to the loopback address.",
    default: "",
    example: "pay_a-token-of-payments-token-create",
    show: showOptional(String)
  }),
  grpcTokenFile: setting("GRPC_TOKEN_FILE", optional(text), {
    about: "File with that token, instead of `GRPC_TOKEN`.",
    default: "",
    example: "/run/secrets/grpc-token",
    show: showOptional(String)
  }),
  grpcUseProxy: setting("GRPC_USE_PROXY", flag, {
    about: "Let `pay`, `refuse` and `payment` call other machines through the proxy of the environment.",
    default: "false",
    example: "true"
  }),
  httpAddr: setting("HTTP_ADDR", address, {
    about: "Address of operations HTTP (`/livez`, `/startedz`, `/readyz`, `/readyz/<role>`, `/metrics`).",
    default: "127.0.0.1:8082",
    example: "0.0.0.0:8082",
    show: showAddress
  }),
  httpTlsCert: setting("HTTP_TLS_CERT", optional(text), {
    about: "PEM file with the certificate of operations HTTP and its chain. Empty: no TLS.",
    default: "",
    example: "/run/secrets/http.crt",
    show: showOptional(String)
  }),
  httpTlsKey: setting("HTTP_TLS_KEY", optional(text), {
    about: "PEM file with the key of that certificate. Both files are read again when they are replaced.",
    default: "",
    example: "/run/secrets/http.key",
    show: showOptional(String)
  }),
  insecure: setting("INSECURE", flag, {
    about:
      "Other machines may reach `GRPC_ADDR` and `HTTP_ADDR` without TLS and authentication ([docs/security.md](docs/security.md#safe-by-default)).",
    default: "false"
  }),
  adminToken: setting("ADMIN_TOKEN", optional(token), {
    about:
      "Token of the operations API on `HTTP_ADDR` ([docs/operations.md](docs/operations.md#the-operations-api)), at least 16 characters. Empty: the API is off.",
    default: "",
    example: "a-long-random-text",
    show: showOptional(String)
  }),
  adminTokenFile: setting("ADMIN_TOKEN_FILE", optional(text), {
    about: "File with that token, instead of `ADMIN_TOKEN`.",
    default: "",
    example: "/run/secrets/payments-admin-token",
    show: showOptional(String)
  })
}
