import type { Effect } from "effect"
import { Either, Redacted } from "effect"
import type { CrashPointName } from "./drills/CrashPoint.js"
import { crashPoints } from "./drills/CrashPoint.js"
import { scopes } from "./domain/Scope.js"
import * as Certificates from "./infra/grpc/auth/Certificates.js"
import * as PostgresUrl from "./infra/postgres/PostgresUrl.js"
import type { ConfigProblems, Parse, Setting, Values } from "./infra/runtime/Setting.js"
import {
  address,
  brokers,
  duration,
  flag,
  integer,
  list,
  load,
  oneOf,
  optional,
  pairs,
  port,
  setting,
  showAddress,
  showDuration,
  showOptional,
  showUrl,
  text,
  token,
  url,
  word
} from "./infra/runtime/Setting.js"

/** Parses `point` or `point:n`; n defaults to 1. */
const drill: Parse<{ readonly point: CrashPointName; readonly passage: number }> = (text) => {
  const [, point = "", passage = "1"] = /^([a-z-]+)(?::([1-9]\d{0,8}))?$/.exec(text) ?? []
  return Object.hasOwn(crashPoints, point)
    ? Either.right({ point: point as CrashPointName, passage: Number(passage) })
    : Either.left("is neither a crash point nor <crash point>:<n>")
}

/** Every environment variable that the process reads. */
export const settings = {
  databaseUrl: setting("DATABASE_URL", PostgresUrl.setting, {
    about: "PostgreSQL URL (system of record), in the forms of libpq ([docs/postgresql.md](docs/postgresql.md)).",
    default: "postgres://payments:payments@localhost:54321/payments",
    show: PostgresUrl.show
  }),
  databasePoolSize: setting("DATABASE_POOL_SIZE", integer(2, 500), {
    about: "Maximum number of PostgreSQL connections of one process.",
    default: "10"
  }),
  redisUrl: setting("REDIS_URL", url("redis:", "rediss:"), {
    about: "Redis URL (cache of handled records).",
    default: "redis://localhost:6379",
    show: showUrl
  }),
  dedupeTtl: setting("DEDUPE_TTL", duration("1 second"), {
    about: "How long Redis remembers a handled `idempotent_key`.",
    default: "7d",
    show: showDuration
  }),
  kafkaBrokers: setting("KAFKA_BROKERS", brokers, {
    about: "Kafka brokers, comma-separated.",
    default: "localhost:9095",
    example: "kafka-1:9092,kafka-2:9092"
  }),
  kafkaGroupId: setting("KAFKA_GROUP_ID", text, {
    about: "Consumer group of topic `inventory`.",
    default: "payments"
  }),
  kafkaSessionTimeout: setting("KAFKA_SESSION_TIMEOUT", duration("6 seconds"), {
    about: "How long a silent consumer keeps its partitions before the group assigns them to others.",
    default: "15s",
    show: showDuration
  }),
  kafkaClientId: setting("KAFKA_CLIENT_ID", text, {
    about: "Client id of this process at the brokers.",
    default: "payments"
  }),
  kafkaCreateTopics: setting("KAFKA_CREATE_TOPICS", flag, {
    about: "Create missing topics (4 partitions), at start and later. `false`: wait for them.",
    default: "true"
  }),
  inventoryTopic: setting("INVENTORY_TOPIC", text, { about: "Topic that the consumer reads.", default: "inventory" }),
  inventoryDlqTopic: setting("INVENTORY_DLQ_TOPIC", text, {
    about: "Dead-letter topic of inventory records that cannot be decoded.",
    default: "inventory.dlq"
  }),
  inventoryAcceptStatuses: setting("INVENTORY_ACCEPT_STATUSES", list, {
    about: "Inventory statuses that create a payment. With the Go Products service: `COMPLETED,CREATED`.",
    default: "COMPLETED",
    example: "COMPLETED,CREATED"
  }),
  paymentTopic: setting("PAYMENT_TOPIC", text, { about: "Topic that the relay writes.", default: "payment" }),
  grpcAddr: setting("GRPC_ADDR", address, {
    about: "Address of the gRPC server, for `serve` to listen on and for `pay`, `refuse` and `payment` to call.",
    default: "127.0.0.1:8081",
    example: "0.0.0.0:8081",
    show: showAddress
  }),
  grpcTlsCert: setting("GRPC_TLS_CERT", optional(text), {
    about: "PEM file with the certificate of the gRPC server and its chain ([docs/security.md](docs/security.md#grpc)). Empty: no TLS.",
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
    about: "With `certificate`: the names of client certificates and their scopes, `name=scope+scope`, comma-separated.",
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
    about: "Commands call the gRPC server with TLS. Default: they do when `GRPC_TLS_CA`, `GRPC_TLS_SERVER_NAME` or `GRPC_TLS_CLIENT_CERT` is set.",
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
      "`true`: `GRPC_ADDR` and `HTTP_ADDR` may be reached by other machines without TLS and authentication ([docs/security.md](docs/security.md#safe-by-default)).",
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
  }),
  migrateOnStart: setting("MIGRATE_ON_START", flag, {
    about: "Apply pending migrations at start. `false`: wait for them.",
    default: "true"
  }),
  outboxDelivery: setting("OUTBOX_DELIVERY", oneOf("at-least-once", "exactly-once"), {
    about:
      "Delivery to topic `payment`. `exactly-once` is for consumers that read committed records ([docs/exactly-once.md](docs/exactly-once.md)).",
    default: "at-least-once",
    example: "exactly-once"
  }),
  outboxBatchSize: setting("OUTBOX_BATCH_SIZE", integer(1, 10_000), {
    about: "Maximum number of events in one claim; four times as many with `exactly-once`.",
    default: "500"
  }),
  outboxPollInterval: setting("OUTBOX_POLL_INTERVAL", duration("10 millis"), {
    about: "How often an idle relay looks for events without a wake-up.",
    default: "2s",
    show: showDuration
  }),
  outboxLease: setting("OUTBOX_LEASE", duration("1 second"), {
    about: "Lease of claimed events; a working relay renews it.",
    default: "30s",
    show: showDuration
  }),
  outboxMaxAttempts: setting("OUTBOX_MAX_ATTEMPTS", integer(1, 1_000), {
    about: "Number of refusals by the broker after which an event is `DEAD`. Outages do not count.",
    default: "10"
  }),
  outboxRetention: setting("OUTBOX_RETENTION", duration("1 second"), {
    about: "How long `DONE` events stay in the table.",
    default: "7d",
    show: showDuration
  }),
  paymentExpiry: setting("PAYMENT_EXPIRY", optional(duration("1 minute")), {
    about: "Age at which a `CREATED` payment becomes `FAILED` because no call settled it. Empty: never.",
    default: "",
    example: "24h",
    show: showOptional(showDuration)
  }),
  shutdownTimeout: setting("SHUTDOWN_TIMEOUT", duration("1 second"), {
    about: "Time limit of a graceful stop.",
    default: "20s",
    show: showDuration
  }),
  logLevel: setting("LOG_LEVEL", word("Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None"), {
    about: "Lowest severity that is logged: `Trace`, `Debug`, `Info`, `Warning`, `Error`, `Fatal` or `None`.",
    default: "Info"
  }),
  otelEndpoint: setting("OTEL_EXPORTER_OTLP_ENDPOINT", optional(url("http:", "https:")), {
    about: "OTLP/HTTP collector of traces, metrics and logs. Empty: no export.",
    default: "",
    example: "http://localhost:4318",
    show: showOptional(showUrl)
  }),
  otelHeaders: setting("OTEL_EXPORTER_OTLP_HEADERS", optional(pairs), {
    about: "Headers for the collector: `key=value`, comma-separated, values percent-encoded.",
    default: "",
    example: "authorization=Bearer%20token",
    show: showOptional(String)
  }),
  otelServiceName: setting("OTEL_SERVICE_NAME", text, {
    about: "Name of this service in traces, metrics and logs.",
    default: "payments"
  }),
  otelResourceAttributes: setting("OTEL_RESOURCE_ATTRIBUTES", optional(pairs), {
    about: "Resource attributes of this process: `key=value`, comma-separated, values percent-encoded.",
    default: "",
    example: "deployment.environment=staging",
    show: showOptional((attributes) => Object.keys(Redacted.value(attributes)).join(","))
  }),
  drill: setting("PAYMENTS_DRILL", optional(drill), {
    about:
      "Drill: the process kills itself when it passes a crash point for the n-th time (`payments drills` lists the points).",
    default: "",
    example: "relay-sent:3",
    show: showOptional(({ passage, point }) => `${point}:${passage}`)
  }),
  drillsAllowed: setting("PAYMENTS_DRILLS_ALLOWED", flag, {
    about: "Allow `PAYMENTS_DRILL`.",
    default: "false"
  }),
  localPostgresPort: setting("LOCAL_POSTGRES_PORT", port, {
    about: "Local stack: port of PostgreSQL.",
    default: "54321"
  }),
  localRedisPort: setting("LOCAL_REDIS_PORT", port, { about: "Local stack: port of Redis.", default: "6379" }),
  localKafkaPort: setting("LOCAL_KAFKA_PORT", port, { about: "Local stack: port of Kafka.", default: "9095" }),
  localFolder: setting("LOCAL_FOLDER", text, {
    about: "Local stack: folder of data, logs and downloads.",
    default: ".local"
  })
}

export type Settings = typeof settings

/** The values of all settings. */
export type Config = Values<Settings>

/** The values of some settings: a function that takes these depends on no others. */
export type ConfigOf<K extends keyof Settings> = Pick<Config, K>

/**
 * Reads these settings from the environment and no others, so that a command fails only for the settings that it uses.
 * Fails with `ConfigProblems`, which lists the problems of all of them.
 */
export const readSettings = <K extends keyof Settings>(...names: ReadonlyArray<K>) =>
  load(Object.fromEntries(names.map((name): [string, Setting<any>] => [name, settings[name]]))) as Effect.Effect<
    ConfigOf<K>,
    ConfigProblems
  >

/** The names of all variables of the environment. */
// eslint-disable-next-line no-restricted-properties -- the names only; values are read as settings
export const environmentNames = (): ReadonlyArray<string> => Object.keys(process.env)
