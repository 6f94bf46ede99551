import { Effect, Either, Redacted } from "effect"
import type { CrashPointName } from "./drills/CrashPoint.js"
import { crashPoints } from "./drills/CrashPoint.js"
import * as KafkaSecurity from "./infra/kafka/KafkaSecurity.js"
import * as KafkaSettings from "./infra/kafka/KafkaSettings.js"
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
  secret,
  setting,
  showAddress,
  showDuration,
  showOptional,
  showUrl,
  text,
  token,
  tokenUrl,
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
  kafkaTls: setting("KAFKA_TLS", flag, {
    about: "Encrypt the connections to Kafka ([docs/security.md](docs/security.md#kafka)).",
    default: "false",
    example: "true"
  }),
  kafkaTlsCa: setting("KAFKA_TLS_CA", optional(text), {
    about: "PEM file of the authorities that may sign the brokers' certificates. Empty: those that Node trusts.",
    default: "",
    example: "/etc/payments/kafka-ca.pem",
    show: showOptional(String)
  }),
  kafkaTlsCert: setting("KAFKA_TLS_CERT", optional(text), {
    about: "PEM file of the client certificate with its chain, for brokers that demand one.",
    default: "",
    example: "/etc/payments/kafka-client.pem",
    show: showOptional(String)
  }),
  kafkaTlsKey: setting("KAFKA_TLS_KEY", optional(text), {
    about: "PEM file of the key of that certificate.",
    default: "",
    example: "/etc/payments/kafka-client-key.pem",
    show: showOptional(String)
  }),
  kafkaTlsServerName: setting("KAFKA_TLS_SERVER_NAME", optional(text), {
    about: "Name in the certificate of every broker, where it is not the host that the client connects to.",
    default: "",
    example: "kafka.example.com",
    show: showOptional(String)
  }),
  kafkaSaslMechanism: setting(
    "KAFKA_SASL_MECHANISM",
    optional(oneOf(...KafkaSecurity.passwordMechanisms, "OAUTHBEARER")),
    {
      about: "Login at Kafka: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`. Empty: none.",
      default: "",
      example: "SCRAM-SHA-512",
      show: showOptional(String)
    }
  ),
  kafkaSaslUsername: setting("KAFKA_SASL_USERNAME", optional(text), {
    about: "User of `PLAIN` and `SCRAM`.",
    default: "",
    example: "payments",
    show: showOptional(String)
  }),
  kafkaSaslPassword: setting("KAFKA_SASL_PASSWORD", optional(secret), {
    about: "Password of `PLAIN` and `SCRAM`.",
    default: "",
    example: "a-long-random-text",
    show: showOptional(String)
  }),
  kafkaSaslPasswordFile: setting("KAFKA_SASL_PASSWORD_FILE", optional(text), {
    about: "File with that password, read again for each connection.",
    default: "",
    example: "/run/secrets/kafka-sasl-password",
    show: showOptional(String)
  }),
  kafkaOauthTokenUrl: setting("KAFKA_OAUTH_TOKEN_URL", optional(tokenUrl), {
    about: "Token endpoint of `OAUTHBEARER`: `https:`, or `http:` on this host.",
    default: "",
    example: "https://login.example.com/oauth2/token",
    show: showOptional(showUrl)
  }),
  kafkaOauthClientId: setting("KAFKA_OAUTH_CLIENT_ID", optional(text), {
    about: "Client id at the token endpoint.",
    default: "",
    example: "payments",
    show: showOptional(String)
  }),
  kafkaOauthClientSecret: setting("KAFKA_OAUTH_CLIENT_SECRET", optional(secret), {
    about: "Client secret at the token endpoint.",
    default: "",
    example: "a-long-random-text",
    show: showOptional(String)
  }),
  kafkaOauthClientSecretFile: setting("KAFKA_OAUTH_CLIENT_SECRET_FILE", optional(text), {
    about: "File with that secret, read again for each token.",
    default: "",
    example: "/run/secrets/kafka-oauth-client-secret",
    show: showOptional(String)
  }),
  kafkaOauthScope: setting("KAFKA_OAUTH_SCOPE", optional(text), {
    about: "Scopes to ask for, with spaces between them. Empty: those of the endpoint.",
    default: "",
    example: "kafka",
    show: showOptional(String)
  }),
  kafkaOauthTlsCa: setting("KAFKA_OAUTH_TLS_CA", optional(text), {
    about: "PEM file of the authorities that may sign the token endpoint's certificate. Empty: those that Node trusts.",
    default: "",
    example: "/etc/payments/oauth-ca.pem",
    show: showOptional(String)
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

/** The settings of every client of Kafka. */
export const kafkaClient = ["kafkaBrokers", "kafkaClientId", ...KafkaSettings.names] as const

export type KafkaClientConfig = ConfigOf<typeof kafkaClient[number]>

/**
 * Reads these settings from the environment and no others, so that a command fails only for the settings that it uses.
 * Fails with `ConfigProblems`, which lists the problems of all of them, or else those of settings that contradict each other.
 */
export const readSettings = <K extends keyof Settings>(
  ...names: ReadonlyArray<K>
): Effect.Effect<ConfigOf<K>, ConfigProblems> => {
  const chosen = Object.fromEntries(names.map((name): [string, Setting<any>] => [name, settings[name]]))
  const values = load(chosen) as Effect.Effect<ConfigOf<K>, ConfigProblems>
  return Effect.tap(
    values,
    (config) =>
      "kafkaTls" in config && "kafkaSaslMechanism" in config
        ? KafkaSettings.check(config as unknown as KafkaClientConfig)
        : Effect.void
  )
}

/** The names of all variables of the environment. */
// eslint-disable-next-line no-restricted-properties -- the names only; values are read as settings
export const environmentNames = (): ReadonlyArray<string> => Object.keys(process.env)
