import { Duration, Effect, Layer } from "effect"
import type { AppConfig } from "../Config.js"
import * as PaymentsApi from "../grpc/PaymentsApi.js"
import type { KafkaOptions, NewTopic } from "../infra/Kafka.js"
import * as Postgres from "../infra/Postgres.js"
import { Readiness } from "../infra/Readiness.js"
import { Redis } from "../infra/Redis.js"
import { showAddress } from "../infra/Setting.js"
import { supervise } from "../infra/Supervisor.js"
import { Dedupe } from "../inventory/Dedupe.js"
import * as InventoryConsumer from "../inventory/InventoryConsumer.js"
import * as Http from "../ops/Http.js"
import * as OpsReadiness from "../ops/Readiness.js"
import { Backlog } from "../outbox/Backlog.js"
import * as KafkaPublisher from "../outbox/KafkaPublisher.js"
import { Outbox } from "../outbox/Outbox.js"
import { OutboxWake } from "../outbox/OutboxWake.js"
import * as Pruner from "../outbox/Pruner.js"
import * as Relay from "../outbox/Relay.js"
import { ShardBatches } from "../outbox/ShardBatches.js"
import { ShardOwners } from "../outbox/ShardOwners.js"
import * as ShardRelay from "../outbox/ShardRelay.js"
import { PaymentRepo } from "../payments/PaymentRepo.js"
import { Payments } from "../payments/Payments.js"

type Config = AppConfig["Type"]

/** What a process may run; each may run in several processes at once. */
export const parts = ["consumer", "relay", "grpc"] as const
export type Part = (typeof parts)[number]

export const kafkaOptions = (config: Config): KafkaOptions => ({
  brokers: config.kafkaBrokers,
  clientId: config.kafkaClientId
})

/** What fits into a broker's default of 1 MiB fits into here with the headers that say why it is dead. */
const deadLetterBytes = 2 * 1024 * 1024

/** Topics that the parts read or write. */
export const topicsOf = (config: Config, running: ReadonlyArray<Part>): ReadonlyArray<NewTopic> => [
  ...(running.includes("consumer")
    ? [{ topic: config.inventoryTopic }, { topic: config.inventoryDlqTopic, maxMessageBytes: deadLetterBytes }]
    : []),
  ...(running.includes("relay") ? [{ topic: config.paymentTopic }] : [])
]

/** What the parts share: one pool of connections, and the use cases over it. */
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
    optional: has("consumer") ? ["redis"] : []
  })
  return Layer.mergeAll(Payments.Default, Backlog.Default, readiness).pipe(
    Layer.provideMerge(PaymentRepo.Default),
    Layer.provideMerge(outbox),
    Layer.provideMerge(has("relay") ? OutboxWake.layerLocal : OutboxWake.layerNotify),
    Layer.provideMerge(Postgres.layer({ url: config.databaseUrl, maxConnections: config.databasePoolSize }))
  )
}

/** What a part may take of the limit for the whole stop; the rest is for closing connections. */
const drainTimeout = (config: Config) => Duration.times(config.shutdownTimeout, 0.7)

/** How a part says that it works (undefined), or why it does not; with several voices, if each knows of its own only. */
const reporter = (dependency: string, voice?: string) =>
  Effect.map(
    Readiness,
    (readiness) => (problem: string | undefined) =>
      readiness.set(dependency, problem === undefined ? "ok" : { reason: problem }, voice)
  )

const inventoryConsumer = (config: Config) =>
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
      Effect.tapError((error) => report(error.message)),
      Effect.provide(Layer.provide(Dedupe.layer({ ttl: config.dedupeTtl }), redis))
    )
  })

const outboxRelay = (config: Config) =>
  Effect.gen(function*() {
    const report = yield* reporter("outbox-relay")
    const kafka = kafkaOptions(config)
    const shards = {
      kafka,
      topic: config.paymentTopic,
      // a transaction costs the broker the same, however many events it has
      batchSize: 4 * config.outboxBatchSize,
      lease: config.outboxLease
    }
    const common = {
      pollInterval: config.outboxPollInterval,
      notifications: config.databaseUrl,
      drainTimeout: drainTimeout(config)
    }
    if (config.outboxDelivery === "exactly-once") return yield* ShardRelay.serve({ ...shards, ...common, report })
    // not a race: an interruption of that is done before the relay has finished what it has in hand
    return yield* Effect.all([
      Relay.serve({
        ...common,
        batchSize: config.outboxBatchSize,
        lease: config.outboxLease,
        onTurn: report
      }),
      ShardRelay.settleOrphans({ ...shards, interval: config.outboxLease })
    ], { concurrency: "unbounded" }).pipe(
      Effect.zipRight(Effect.never),
      Effect.provide(KafkaPublisher.layer({ ...kafka, onOutage: report }))
    )
  }).pipe(Effect.provide(shardLayer(config)))

const shardLayer = (config: Config) =>
  Layer.merge(ShardOwners.Default({ lease: config.outboxLease }), ShardBatches.Default)

/** Waiting does not mend a place where nobody can listen. */
const cannotListen = <E extends { readonly _tag: string }>(
  error: E
): error is Extract<E, { readonly _tag: "AddressInUse" | "GrpcServerError" | "HttpServerError" }> =>
  ["AddressInUse", "GrpcServerError", "HttpServerError"].includes(error._tag)

/** The operations server, supervised. It answers before the parts have what they wait for. */
export const http = (config: Config) =>
  supervise(
    "http-server",
    Http.serve({ address: config.httpAddr, serviceName: config.otelServiceName }),
    cannotListen
  )

const grpc = (config: Config) =>
  supervise(
    "grpc-server",
    PaymentsApi.serve({ address: showAddress(config.grpcAddr), drainLimit: drainTimeout(config) }),
    cannotListen
  )

/** The services of a part, each under a supervisor of its own, until interrupted or until one gives up. */
export const run = Effect.fnUntraced(function*(part: Part, config: Config) {
  switch (part) {
    case "consumer":
      return yield* supervise("inventory-consumer", inventoryConsumer(config))
    case "relay":
      return yield* Effect.all([
        supervise("outbox-relay", outboxRelay(config)),
        supervise("outbox-pruner", Pruner.serve({ retention: config.outboxRetention }))
      ], { concurrency: "unbounded", discard: true })
    case "grpc":
      return yield* grpc(config)
  }
})
