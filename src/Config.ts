import type { Effect } from "effect"
import { Either, Redacted } from "effect"
import type { CrashPointName } from "./drills/CrashPoint.js"
import { crashPoints } from "./drills/CrashPoint.js"
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
  url,
  word
} from "./infra/runtime/Setting.js"

/** `point` or `point:n`. */
const drill: Parse<{ readonly point: CrashPointName; readonly passage: number }> = (text) => {
  const [, point = "", passage = "1"] = /^([a-z-]+)(?::([1-9]\d{0,8}))?$/.exec(text) ?? []
  return Object.hasOwn(crashPoints, point)
    ? Either.right({ point: point as CrashPointName, passage: Number(passage) })
    : Either.left("is not a crash point, or one and how often it is to be passed")
}

/** Every environment variable that the process reads. */
export const settings = {
  databaseUrl: setting("DATABASE_URL", PostgresUrl.setting, {
    about: "PostgreSQL, the truth: a URL as libpq reads it ([docs/postgresql.md](docs/postgresql.md)).",
    default: "postgres://payments:payments@localhost:54321/payments",
    show: PostgresUrl.show
  }),
  databasePoolSize: setting("DATABASE_POOL_SIZE", integer(2, 500), {
    about: "Connections to PostgreSQL that one process opens at the most.",
    default: "10"
  }),
  redisUrl: setting("REDIS_URL", url("redis:", "rediss:"), {
    about: "Redis, the shortcut for repeats.",
    default: "redis://localhost:6379",
    show: showUrl
  }),
  dedupeTtl: setting("DEDUPE_TTL", duration("1 second"), {
    about: "How long a handled `idempotent_key` is remembered in Redis.",
    default: "7d",
    show: showDuration
  }),
  kafkaBrokers: setting("KAFKA_BROKERS", brokers, {
    about: "Kafka, comma-separated.",
    default: "localhost:9095",
    example: "kafka-1:9092,kafka-2:9092"
  }),
  kafkaGroupId: setting("KAFKA_GROUP_ID", text, {
    about: "Consumer group of topic `inventory`.",
    default: "payments"
  }),
  kafkaSessionTimeout: setting("KAFKA_SESSION_TIMEOUT", duration("6 seconds"), {
    about: "How long the group waits for a consumer that is not heard from before others get its partitions.",
    default: "15s",
    show: showDuration
  }),
  kafkaClientId: setting("KAFKA_CLIENT_ID", text, {
    about: "Name under which the brokers see this process.",
    default: "payments"
  }),
  kafkaCreateTopics: setting("KAFKA_CREATE_TOPICS", flag, {
    about: "Create missing topics (4 partitions), at start and when one is deleted later. `false`: wait for them.",
    default: "true"
  }),
  inventoryTopic: setting("INVENTORY_TOPIC", text, { about: "Topic read.", default: "inventory" }),
  inventoryDlqTopic: setting("INVENTORY_DLQ_TOPIC", text, {
    about: "Topic for inventory records that cannot be decoded.",
    default: "inventory.dlq"
  }),
  inventoryAcceptStatuses: setting("INVENTORY_ACCEPT_STATUSES", list, {
    about: "Inventory statuses that create a payment. Beside the Go Products service: `COMPLETED,CREATED`.",
    default: "COMPLETED",
    example: "COMPLETED,CREATED"
  }),
  paymentTopic: setting("PAYMENT_TOPIC", text, { about: "Topic written.", default: "payment" }),
  grpcAddr: setting("GRPC_ADDR", address, {
    about: "Where the gRPC server listens, and where `pay`, `refuse` and `payment` call.",
    default: "127.0.0.1:8081",
    example: "0.0.0.0:8081",
    show: showAddress
  }),
  grpcUseProxy: setting("GRPC_USE_PROXY", flag, {
    about:
      "Whether `pay`, `refuse` and `payment` may call through the proxy that the environment names. Never to this machine.",
    default: "false",
    example: "true"
  }),
  httpAddr: setting("HTTP_ADDR", address, {
    about: "Where operations HTTP listens (`/livez`, `/readyz`, `/metrics`).",
    default: "127.0.0.1:8082",
    example: "0.0.0.0:8082",
    show: showAddress
  }),
  migrateOnStart: setting("MIGRATE_ON_START", flag, {
    about: "Apply pending migrations at start. `false`: wait for them.",
    default: "true"
  }),
  outboxDelivery: setting("OUTBOX_DELIVERY", oneOf("at-least-once", "exactly-once"), {
    about: "Delivery to topic `payment`. `exactly-once`: for consumers that read what is committed, whatever crashes.",
    default: "at-least-once",
    example: "exactly-once"
  }),
  outboxBatchSize: setting("OUTBOX_BATCH_SIZE", integer(1, 10_000), {
    about: "Events that one claim takes at the most; four times as many with `exactly-once`.",
    default: "500"
  }),
  outboxPollInterval: setting("OUTBOX_POLL_INTERVAL", duration("10 millis"), {
    about: "How often an idle relay looks for events that nobody announced.",
    default: "2s",
    show: showDuration
  }),
  outboxLease: setting("OUTBOX_LEASE", duration("1 second"), {
    about: "How long a claim holds its events without renewal.",
    default: "30s",
    show: showDuration
  }),
  outboxMaxAttempts: setting("OUTBOX_MAX_ATTEMPTS", integer(1, 1_000), {
    about: "Refusals by the broker after which an event is `DEAD`. Outages do not count.",
    default: "10"
  }),
  outboxRetention: setting("OUTBOX_RETENTION", duration("1 second"), {
    about: "How long `DONE` events are kept.",
    default: "7d",
    show: showDuration
  }),
  shutdownTimeout: setting("SHUTDOWN_TIMEOUT", duration("1 second"), {
    about: "Limit of a graceful stop, in all.",
    default: "20s",
    show: showDuration
  }),
  logLevel: setting("LOG_LEVEL", word("Trace", "Debug", "Info", "Warning", "Error", "Fatal", "None"), {
    about: "Least severe message that is logged: `Trace`, `Debug`, `Info`, `Warning`, `Error`, `Fatal` or `None`.",
    default: "Info"
  }),
  otelEndpoint: setting("OTEL_EXPORTER_OTLP_ENDPOINT", optional(url("http:", "https:")), {
    about: "OTLP/HTTP collector of traces, metrics and logs. Empty: nothing is exported.",
    default: "",
    example: "http://localhost:4318",
    show: showOptional(showUrl)
  }),
  otelHeaders: setting("OTEL_EXPORTER_OTLP_HEADERS", optional(pairs), {
    about: "Headers for the collector: `key=value`, comma-separated, the values percent-encoded.",
    default: "",
    example: "authorization=Bearer%20token",
    show: showOptional(String)
  }),
  otelServiceName: setting("OTEL_SERVICE_NAME", text, {
    about: "Name of this service in traces, metrics and logs.",
    default: "payments"
  }),
  otelResourceAttributes: setting("OTEL_RESOURCE_ATTRIBUTES", optional(pairs), {
    about: "More about this process for the collector: `key=value`, comma-separated, the values percent-encoded.",
    default: "",
    example: "deployment.environment=staging",
    show: showOptional((attributes) => Object.keys(Redacted.value(attributes)).join(","))
  }),
  drill: setting("PAYMENTS_DRILL", optional(drill), {
    about: "Rehearsal: this process kills itself the n-th time it passes a crash point (`payments drills` lists them).",
    default: "",
    example: "relay-sent:3",
    show: showOptional(({ passage, point }) => `${point}:${passage}`)
  }),
  drillsAllowed: setting("PAYMENTS_DRILLS_ALLOWED", flag, {
    about: "Whether `PAYMENTS_DRILL` may be set here.",
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

/** The values of some of them: who takes these has nothing to do with the others. */
export type ConfigOf<K extends keyof Settings> = Pick<Config, K>

/**
 * Reads these settings from the environment, and no other: what is wrong with a setting that a command does not use is no
 * fault of the command. Fails with every problem of those together.
 */
export const readSettings = <K extends keyof Settings>(...names: ReadonlyArray<K>) =>
  load(Object.fromEntries(names.map((name): [string, Setting<any>] => [name, settings[name]]))) as Effect.Effect<
    ConfigOf<K>,
    ConfigProblems
  >
