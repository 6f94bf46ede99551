import { Array as Arr, Cause, Duration, Effect, Layer, Metric, Option, Record } from "effect"
import type { ConfigOf, Settings } from "../Config.js"
import type { DoctorOptions } from "../doctor/Doctor.js"
import * as PaymentsApi from "../grpc/PaymentsApi.js"
import type { KafkaOptions, NewTopic } from "../infra/kafka/KafkaClient.js"
import * as DatabaseClock from "../infra/postgres/DatabaseClock.js"
import * as Postgres from "../infra/postgres/Postgres.js"
import type { Rights } from "../infra/postgres/PostgresRights.js"
import { Redis } from "../infra/redis/Redis.js"
import { beside } from "../infra/runtime/Beside.js"
import { Readiness } from "../infra/runtime/Readiness.js"
import { showAddress } from "../infra/runtime/Setting.js"
import { supervise } from "../infra/runtime/Supervisor.js"
import { Dedupe } from "../inventory/Dedupe.js"
import * as InventoryConsumer from "../inventory/InventoryConsumer.js"
import * as Http from "../ops/Http.js"
import * as OpsReadiness from "../ops/Readiness.js"
import { Backlog } from "../outbox/Backlog.js"
import * as KafkaPublisher from "../outbox/leased/KafkaPublisher.js"
import * as Relay from "../outbox/leased/Relay.js"
import { Outbox } from "../outbox/Outbox.js"
import { OutboxWake } from "../outbox/OutboxWake.js"
import * as Pruner from "../outbox/Pruner.js"
import { ShardBatches } from "../outbox/sharded/ShardBatches.js"
import * as ShardOrphans from "../outbox/sharded/ShardOrphans.js"
import { ShardOwners } from "../outbox/sharded/ShardOwners.js"
import * as ShardRelay from "../outbox/sharded/ShardRelay.js"
import { Spreads } from "../outbox/Spreads.js"
import * as Expiry from "../payments/Expiry.js"
import { PaymentRepo } from "../payments/PaymentRepo.js"
import { Payments } from "../payments/Payments.js"
import { Sequences } from "../payments/Sequences.js"
import * as Prepare from "./Prepare.js"

/** The parts of the service; each may run in several processes at once. */
export const parts = ["consumer", "relay", "grpc"] as const
export type Part = (typeof parts)[number]

const kafka = ["kafkaBrokers", "kafkaClientId", "kafkaCreateTopics"] as const

/** The settings of every part, and the additional ones of each part. */
const used = {
  every: [
    "databaseUrl",
    "databasePoolSize",
    "migrateOnStart",
    "httpAddr",
    "shutdownTimeout",
    "paymentTopic",
    "outboxLease",
    "outboxMaxAttempts",
    "otelEndpoint",
    "otelHeaders",
    "otelServiceName",
    "otelResourceAttributes",
    "drill",
    "drillsAllowed"
  ],
  consumer: [
    ...kafka,
    "kafkaGroupId",
    "kafkaSessionTimeout",
    "inventoryTopic",
    "inventoryDlqTopic",
    "inventoryAcceptStatuses",
    "redisUrl",
    "dedupeTtl"
  ],
  relay: [...kafka, "outboxDelivery", "outboxBatchSize", "outboxPollInterval", "outboxRetention", "paymentExpiry"],
  grpc: ["grpcAddr"]
} as const satisfies Record<Part | "every", ReadonlyArray<keyof Settings>>

type Used<P extends keyof typeof used = keyof typeof used> = (typeof used)[P][number]

/** The settings of all parts. At run time those of a part that does not run are missing. */
export type Config = ConfigOf<Used>
type PartConfig<P extends Part> = ConfigOf<Used<"every" | P>>

/** The names of the settings that these parts use. */
export const settingsOf = (running: ReadonlyArray<Part>): ReadonlyArray<Used> => [
  ...used.every,
  ...running.flatMap((part) => used[part])
]

export const kafkaOptions = (config: ConfigOf<"kafkaBrokers" | "kafkaClientId">): KafkaOptions => ({
  brokers: config.kafkaBrokers,
  clientId: config.kafkaClientId
})

/** `max.message.bytes` of the dead-letter topic: a record of the default 1 MiB fits with the added headers. */
const deadLetterBytes = 2 * 1024 * 1024

/** Topics that the parts read or write. */
export const topicsOf = (config: Config, running: ReadonlyArray<Part>): ReadonlyArray<NewTopic> => [
  ...(running.includes("consumer")
    ? [{ topic: config.inventoryTopic }, { topic: config.inventoryDlqTopic, maxMessageBytes: deadLetterBytes }]
    : []),
  ...(running.includes("relay") ? [{ topic: config.paymentTopic }] : [])
]

/** The permissions that each part needs, including the leases that it writes for the relay of its process. */
const rights: Readonly<Record<Part, Rights>> = {
  consumer: { payment: ["SELECT", "INSERT"], event: ["SELECT", "INSERT", "UPDATE"], outbox_topic: ["SELECT"] },
  relay: {
    event: ["SELECT", "UPDATE", "DELETE"],
    outbox_shard: ["SELECT", "UPDATE"],
    outbox_relay: ["SELECT", "INSERT", "UPDATE", "DELETE"],
    outbox_topic: ["SELECT", "INSERT", "UPDATE"]
  },
  grpc: { payment: ["SELECT", "UPDATE"], event: ["SELECT", "INSERT", "UPDATE"], outbox_topic: ["SELECT"] }
}

/** The union of the permissions of these parts. The relay also settles payments when they expire. */
export const rightsOf = (config: ConfigOf<"paymentExpiry">, running: ReadonlyArray<Part>): Rights =>
  [
    ...running.map((part) => rights[part]),
    ...(running.includes("relay") && Option.isSome(config.paymentExpiry) ? [rights.grpc] : [])
  ].reduce<Rights>(
    (all, more) => Record.union(all, more, (some, others) => Arr.union(some, others)),
    {}
  )

/** The shared services of the parts: one connection pool, and the use cases on it. */
export const layer = (config: Config, running: ReadonlyArray<Part>) => {
  const has = (part: Part) => running.includes(part)
  const outbox = Outbox.Default({
    topic: config.paymentTopic,
    lease: config.outboxLease,
    maxAttempts: config.outboxMaxAttempts
  })
  const readiness = OpsReadiness.layer({
    required: [
      "migrations",
      "topics",
      ...(has("consumer") ? ["inventory-consumer"] : []),
      ...(has("relay") ? ["outbox-relay"] : [])
    ],
    optional: has("consumer") ? ["redis"] : [],
    rights: rightsOf(config, running)
  })
  return Layer.mergeAll(Payments.Default, Backlog.Default, readiness).pipe(
    Layer.provideMerge(PaymentRepo.Default),
    Layer.provideMerge(Sequences.Default),
    Layer.provideMerge(outbox),
    Layer.provideMerge(has("relay") ? OutboxWake.layerLocal : OutboxWake.layerNotify),
    Layer.provideMerge(Postgres.layer({ url: config.databaseUrl, maxConnections: config.databasePoolSize }))
  )
}

/** The share of SHUTDOWN_TIMEOUT in which a part finishes its work; the rest is for closing connections. */
export const drainTimeout = (config: ConfigOf<"shutdownTimeout">) => Duration.times(config.shutdownTimeout, 0.7)

/** What the doctor checks for these parts. */
export const doctorOptions = (config: Config, running: ReadonlyArray<Part>): DoctorOptions => ({
  config,
  kafka: kafkaOptions(config),
  topics: topicsOf(config, running).map(({ topic }) => topic),
  consumes: running.includes("consumer"),
  relays: running.includes("relay"),
  drainTime: drainTimeout(config),
  migrations: Prepare.migrations,
  rights: rightsOf(config, running)
})

/** Returns a function that reports a dependency: undefined when it works, otherwise the reason. */
const reporter = (dependency: string) =>
  Effect.map(
    Readiness,
    (readiness) => (problem: string | undefined) =>
      readiness.set(dependency, problem === undefined ? "ok" : { reason: problem })
  )

/** The reason for readiness when a part failed: the message of a typed error; the cause of a bug is in the log only. */
const reasonOf = (cause: Cause.Cause<unknown>) => {
  const [failure] = Cause.failures(cause)
  return failure instanceof Error ? failure.message : "a bug ended the service: see the log"
}

const inventoryConsumer = (config: PartConfig<"consumer">) =>
  Effect.gen(function*() {
    const readiness = yield* Readiness
    const report = yield* reporter("inventory-consumer")
    const redis = Redis.layer({ url: config.redisUrl, onChange: yield* reporter("redis") })
    return yield* InventoryConsumer.serve({
      ...kafkaOptions(config),
      groupId: config.kafkaGroupId,
      sessionTimeout: config.kafkaSessionTimeout,
      topic: config.inventoryTopic,
      dlqTopic: config.inventoryDlqTopic,
      acceptStatuses: config.inventoryAcceptStatuses,
      drainTimeout: drainTimeout(config),
      onJoin: report(undefined),
      onWait: (what, problem) =>
        readiness.set("inventory-consumer", problem === undefined ? "ok" : { reason: problem }, what)
    }).pipe(
      Effect.tapErrorCause((cause) => report(reasonOf(cause))),
      Effect.provide(Layer.provide(Dedupe.layer({ ttl: config.dedupeTtl }), redis))
    )
  })

const outboxRelay = (config: PartConfig<"relay">) =>
  Effect.gen(function*() {
    const report = yield* reporter("outbox-relay")
    const brokers = kafkaOptions(config)
    const shards = {
      kafka: brokers,
      topic: config.paymentTopic,
      // a transaction costs the broker the same for any number of events
      batchSize: 4 * config.outboxBatchSize,
      lease: config.outboxLease
    }
    const common = {
      pollInterval: config.outboxPollInterval,
      notifications: config.databaseUrl,
      drainTimeout: drainTimeout(config)
    }
    const followPartitions = (yield* Spreads).watch(brokers, config.paymentTopic)
    const relay = config.outboxDelivery === "exactly-once"
      ? beside(ShardRelay.serve({ ...shards, ...common, report }), [followPartitions])
      : beside(
        Relay.serve({
          ...common,
          batchSize: config.outboxBatchSize,
          lease: config.outboxLease,
          report
        }).pipe(Effect.provide(KafkaPublisher.layer(brokers))),
        [followPartitions, ShardOrphans.reconcileOrphans({ ...shards, interval: config.outboxLease })]
      )
    return yield* Effect.tapErrorCause(relay, (cause) => report(reasonOf(cause)))
  }).pipe(Effect.provide(relayLayer(config)))

const relayLayer = (config: ConfigOf<"outboxLease">) =>
  Layer.mergeAll(ShardOwners.Default({ lease: config.outboxLease }), ShardBatches.Default, Spreads.Default)

/** True when the process cannot listen on its address: waiting does not help. */
const cannotListen = <E extends { readonly _tag: string }>(
  error: E
): error is Extract<E, { readonly _tag: "AddressInUse" | "GrpcServerError" | "HttpServerError" }> =>
  ["AddressInUse", "GrpcServerError", "HttpServerError"].includes(error._tag)

/** The operations server, supervised. It answers while the parts still wait for their dependencies. */
export const http = (config: ConfigOf<"httpAddr" | "otelServiceName">, api: Http.HttpOptions["api"]) =>
  supervise(
    "http-server",
    Http.serve({ address: config.httpAddr, serviceName: config.otelServiceName, api }),
    cannotListen
  )

/** Follows the database's clock, the source of record timestamps, supervised. */
export const clock = supervise("database-clock", DatabaseClock.serve)

const grpc = (config: PartConfig<"grpc">) =>
  supervise(
    "grpc-server",
    PaymentsApi.serve({ address: showAddress(config.grpcAddr), drainLimit: drainTimeout(config) }),
    cannotListen
  )

/** Expires payments where PAYMENT_EXPIRY is set, supervised. The metrics are there without it too. */
const paymentExpiry = (config: PartConfig<"relay">) =>
  Effect.zipRight(
    Effect.forEach(Expiry.metrics, (metric) => Metric.value(metric), { discard: true }),
    Option.match(config.paymentExpiry, {
      onNone: () => Effect.never,
      onSome: (after) => Effect.flatMap(Expiry.make(after), (round) => supervise("payment-expiry", Expiry.serve(round)))
    })
  )

/** Runs the services of a part, each under its own supervisor, until interrupted or until one fails for good. */
export const run = Effect.fnUntraced(function*(part: Part, config: Config) {
  switch (part) {
    case "consumer":
      return yield* supervise("inventory-consumer", inventoryConsumer(config))
    case "relay":
      return yield* Effect.all([
        supervise("outbox-relay", outboxRelay(config)),
        supervise("outbox-pruner", Pruner.serve({ retention: config.outboxRetention })),
        paymentExpiry(config)
      ], { concurrency: "unbounded", discard: true })
    case "grpc":
      return yield* grpc(config)
  }
})
