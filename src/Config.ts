import { Effect, Either, Redacted } from "effect"
import * as Agreement from "./config/Agreement.js"
import { kafka } from "./config/Kafka.js"
import { servers } from "./config/Servers.js"
import { postgres, redis } from "./config/Stores.js"
import type { CrashPointName } from "./drills/CrashPoint.js"
import { crashPoints } from "./drills/CrashPoint.js"
import * as KafkaSettings from "./infra/kafka/KafkaSettings.js"
import type { ConfigProblems, Parse, Setting, Values } from "./infra/runtime/Setting.js"
import {
  duration,
  flag,
  integer,
  list,
  load,
  oneOf,
  optionalSetting,
  pairs,
  port,
  setting,
  showDuration,
  showUrl,
  text,
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
  ...postgres,
  databasePoolSize: setting("DATABASE_POOL_SIZE", integer(2, 500), {
    about: "Maximum number of PostgreSQL connections of one process.",
    default: "10"
  }),
  ...redis,
  dedupeTtl: setting("DEDUPE_TTL", duration("1 second"), {
    about: "How long Redis remembers a handled `idempotent_key`.",
    default: "7d",
    show: showDuration
  }),
  ...kafka,
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
  ...servers,
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
  paymentExpiry: optionalSetting("PAYMENT_EXPIRY", duration("1 minute"), {
    about: "Age at which a `CREATED` payment becomes `FAILED` because no call settled it. Empty: never.",
    example: "24h",
    show: showDuration
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
  otelEndpoint: optionalSetting("OTEL_EXPORTER_OTLP_ENDPOINT", url("http:", "https:"), {
    about: "OTLP/HTTP collector of traces, metrics and logs. Empty: no export.",
    example: "http://localhost:4318",
    show: showUrl
  }),
  otelHeaders: optionalSetting("OTEL_EXPORTER_OTLP_HEADERS", pairs, {
    about: "Headers for the collector: `key=value`, comma-separated, values percent-encoded.",
    example: "authorization=Bearer%20token"
  }),
  otelServiceName: setting("OTEL_SERVICE_NAME", text, {
    about: "Name of this service in traces, metrics and logs.",
    default: "payments"
  }),
  otelResourceAttributes: optionalSetting("OTEL_RESOURCE_ATTRIBUTES", pairs, {
    about: "Resource attributes of this process: `key=value`, comma-separated, values percent-encoded.",
    example: "deployment.environment=staging",
    show: (attributes) => Object.keys(Redacted.value(attributes)).join(",")
  }),
  drill: optionalSetting("PAYMENTS_DRILL", drill, {
    about:
      "Drill: the process kills itself when it passes a crash point for the n-th time (`payments drills` lists the points).",
    example: "relay-sent:3",
    show: ({ passage, point }) => `${point}:${passage}`
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
  return Effect.tap(values, (config) => Agreement.check(config))
}

/** The names of all variables of the environment. */
// eslint-disable-next-line no-restricted-properties -- the names only; values are read as settings
export const environmentNames = (): ReadonlyArray<string> => Object.keys(process.env)
