import { Duration, Effect, Layer, Option } from "effect"
import type { ConfigOf, KafkaClientConfig, Settings } from "../Config.js"
import { kafkaClient } from "../Config.js"
import type { DoctorOptions } from "../doctor/Doctor.js"
import type { KafkaOptions, NewTopic } from "../infra/kafka/KafkaClient.js"
import * as KafkaSettings from "../infra/kafka/KafkaSettings.js"
import * as DatabaseClock from "../infra/postgres/DatabaseClock.js"
import * as PostgresUrl from "../infra/postgres/PostgresUrl.js"
import { Redis } from "../infra/redis/Redis.js"
import * as RedisUrl from "../infra/redis/RedisUrl.js"
import { beside } from "../infra/runtime/Beside.js"
import type { Part } from "../infra/runtime/Health.js"
import { Health } from "../infra/runtime/Health.js"
import { supervise } from "../infra/runtime/Supervisor.js"
import * as Withdrawal from "../infra/runtime/Withdrawal.js"
import { Dedupe } from "../inventory/Dedupe.js"
import * as InventoryConsumer from "../inventory/InventoryConsumer.js"
import * as Lag from "../inventory/Lag.js"
import type { PartName, Role } from "../ops/Parts.js"
import * as Parts from "../ops/Parts.js"
import { Backlog } from "../outbox/Backlog.js"
import { BrokerContact } from "../outbox/BrokerContact.js"
import * as KafkaPublisher from "../outbox/leased/KafkaPublisher.js"
import * as OtherRelays from "../outbox/leased/OtherRelays.js"
import * as Relay from "../outbox/leased/Relay.js"
import { Outbox } from "../outbox/Outbox.js"
import { OutboxWake } from "../outbox/OutboxWake.js"
import * as Pruner from "../outbox/Pruner.js"
import { Refusals } from "../outbox/Refusals.js"
import { ShardBatches } from "../outbox/sharded/ShardBatches.js"
import * as ShardOrphans from "../outbox/sharded/ShardOrphans.js"
import { ShardOwners } from "../outbox/sharded/ShardOwners.js"
import * as ShardRelay from "../outbox/sharded/ShardRelay.js"
import { Spreads } from "../outbox/Spreads.js"
import * as Expiry from "../payments/Expiry.js"
import { PaymentRepo } from "../payments/PaymentRepo.js"
import { Payments } from "../payments/Payments.js"
import { Sequences } from "../payments/Sequences.js"
import * as Cache from "./Cache.js"
import * as Database from "./Database.js"
import * as Listening from "./Listening.js"
import * as OwnCertificates from "./OwnCertificates.js"
import * as Prepare from "./Prepare.js"
import { rightsOf } from "./Rights.js"
import * as Servers from "./Servers.js"
import { supervised } from "./Supervised.js"

const kafka = [...kafkaClient, "kafkaCreateTopics"] as const

/** The settings of every part, and the additional ones of each part. */
const ofWorkers = {
  every: [
    ...Database.used,
    "databasePoolSize",
    "migrateOnStart",
    ...Listening.httpUsed,
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
    ...Cache.used,
    "dedupeTtl"
  ],
  relay: [
    ...kafka,
    "kafkaGroupId",
    "inventoryTopic",
    "outboxDelivery",
    "outboxBatchSize",
    "outboxPollInterval",
    "outboxRetention",
    "paymentExpiry"
  ],
  grpc: Listening.grpcUsed
} as const

/** The console compares the settings of all parts with the servers. */
const used = {
  ...ofWorkers,
  console: [...ofWorkers.consumer, ...ofWorkers.relay, ...ofWorkers.grpc]
} as const satisfies Record<Role | "every", ReadonlyArray<keyof Settings>>

type Used<P extends keyof typeof used = keyof typeof used> = (typeof used)[P][number]

/** The settings of all parts. At run time those of a part that does not run are missing. */
export type Config = ConfigOf<Used>
type PartConfig<P extends Role> = ConfigOf<Used<"every" | P>>

/** The names of the settings that these parts use. */
export const settingsOf = (running: ReadonlyArray<Role>): ReadonlyArray<Used> => [
  ...used.every,
  ...running.flatMap((part) => used[part])
]

export const kafkaOptions = (config: KafkaClientConfig): KafkaOptions => ({
  brokers: config.kafkaBrokers,
  clientId: config.kafkaClientId,
  security: KafkaSettings.security(config)
})

/** `max.message.bytes` of the dead-letter topic: a record of the default 1 MiB fits with the added headers. */
const deadLetterBytes = 2 * 1024 * 1024

/** The gRPC server alone needs no brokers, and reads none of their settings. */
const usesKafka = (running: ReadonlyArray<Role>) => running.some((role) => role !== "grpc")

/** The topics that roles read or write, by the part that watches them. */
export const topicsOf = (config: Config, running: ReadonlyArray<Role>) => ({
  ...(running.includes("consumer")
    ? {
      "inventory-topics": {
        role: "consumer",
        topics: [
          { topic: config.inventoryTopic },
          { topic: config.inventoryDlqTopic, maxMessageBytes: deadLetterBytes }
        ]
      }
    }
    : {}),
  ...(running.includes("relay")
    ? { "payment-topic": { role: "relay", topics: [{ topic: config.paymentTopic }] } }
    : {})
} satisfies Partial<Record<PartName, { readonly role: Role; readonly topics: ReadonlyArray<NewTopic> }>>)

/** Addresses of the servers without secrets, for the log. */
const addressesOf = (config: Config, running: ReadonlyArray<Role>) => ({
  postgres: PostgresUrl.places(config.databaseUrl),
  ...(running.some((role) => role !== "grpc") ? { kafka: config.kafkaBrokers.join(",") } : {}),
  ...(running.includes("consumer") ? { redis: RedisUrl.parse(config.redisUrl).places } : {})
})

/** The shared services of the parts: one connection pool, and the use cases on it. */
export const layer = (config: Config, running: ReadonlyArray<Role>) => {
  const has = (part: Role) => running.includes(part)
  const outbox = Outbox.Default({
    topic: config.paymentTopic,
    lease: config.outboxLease,
    maxAttempts: config.outboxMaxAttempts
  })
  const health = Parts.layer({
    running,
    verifiesByKeys: config.grpcAuth === "jwt",
    rights: rightsOf(config, running),
    where: addressesOf(config, running)
  })
  return Layer.mergeAll(Payments.Default, Backlog.Default, Refusals.Default, health).pipe(
    Layer.provideMerge(PaymentRepo.Default),
    Layer.provideMerge(Sequences.Default),
    Layer.provideMerge(outbox),
    Layer.provideMerge(has("relay") ? OutboxWake.layerLocal : OutboxWake.layerNotify),
    Layer.provideMerge(Database.layer(config, config.databasePoolSize))
  )
}

/** The share of SHUTDOWN_TIMEOUT in which a part finishes its work; the rest is for closing connections. */
export const drainTimeout = (config: ConfigOf<"shutdownTimeout">) => Duration.times(config.shutdownTimeout, 0.7)

/** What the doctor checks for these parts. */
export const doctorOptions = (config: Config, running: ReadonlyArray<Role>): DoctorOptions => ({
  config,
  kafka: usesKafka(running) ? kafkaOptions(config) : undefined,
  topics: Object.values(topicsOf(config, running)).flatMap(({ topics }) => topics.map(({ topic }) => topic)),
  consumes: running.includes("consumer"),
  redis: running.includes("consumer") ? Cache.server(config) : undefined,
  relays: running.includes("relay"),
  drainTime: drainTimeout(config),
  migrations: Prepare.migrations,
  rights: rightsOf(config, running),
  certificates: OwnCertificates.of(config, running)
})

const inventoryConsumer = (config: PartConfig<"consumer">, part: Part) =>
  Effect.gen(function*() {
    const health = yield* Health
    const cache = health.part("redis")
    const redis = Redis.layer({
      ...Cache.server(config),
      onChange: (why) => Effect.sync(() => why === undefined ? cache.working() : cache.failed({ reason: "redis", why }))
    })
    return yield* InventoryConsumer.serve({
      ...kafkaOptions(config),
      groupId: config.kafkaGroupId,
      sessionTimeout: config.kafkaSessionTimeout,
      topic: config.inventoryTopic,
      dlqTopic: config.inventoryDlqTopic,
      acceptStatuses: config.inventoryAcceptStatuses,
      drainTimeout: drainTimeout(config),
      databaseIsAway: Effect.map(health.known, ({ dependencies }) => dependencies["postgres"]?.state === "waiting"),
      part
    }).pipe(Effect.provide(Layer.provide(Dedupe.layer({ ttl: config.dedupeTtl }), redis)))
  })

const outboxRelay = (config: PartConfig<"relay">, part: Part) =>
  Effect.gen(function*() {
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
      drainTimeout: drainTimeout(config),
      part,
      listener: yield* Parts.part("outbox-listener")
    }
    const contact = yield* BrokerContact
    const unless = (isCutOff: Effect.Effect<boolean>) =>
      Withdrawal.around({
        isCutOff,
        after: config.outboxLease,
        isBack: Effect.map(contact.isLost, (is) => !is),
        part,
        problem: {
          reason: "kafka",
          why: "gave up its events until the brokers are back: other relays may publish them"
        }
      })
    const relay = config.outboxDelivery === "exactly-once"
      ? ShardRelay.serve({ ...shards, ...common }).pipe(unless(contact.isLost))
      : beside(
        Relay.serve({
          ...common,
          batchSize: config.outboxBatchSize,
          lease: config.outboxLease
        }).pipe(Effect.provide(KafkaPublisher.layer(brokers))),
        [ShardOrphans.reconcileOrphans({ ...shards, interval: config.outboxLease, part })]
      ).pipe(unless(yield* OtherRelays.goOn))
    return yield* beside(relay, [(yield* Spreads).watch(brokers, config.paymentTopic)])
  }).pipe(Effect.provide(relayLayer(config)))

const relayLayer = (config: ConfigOf<"outboxLease">) =>
  Layer.mergeAll(ShardOwners.Default({ lease: config.outboxLease }), ShardBatches.Default, Spreads.Default).pipe(
    Layer.provideMerge(BrokerContact.Default)
  )

/** Follows the database's clock, the source of record timestamps. */
export const clock = supervised("database-clock", DatabaseClock.serve)

/** Measures the lag of the consumer group. A process with the relay does so too, for the time without a consumer. */
export const lag = (config: KafkaClientConfig & ConfigOf<"kafkaGroupId" | "inventoryTopic">) =>
  supervised(
    "consumer-lag",
    (part) => Lag.serve({ ...kafkaOptions(config), groupId: config.kafkaGroupId, topic: config.inventoryTopic, part })
  )

/** Expires payments where PAYMENT_EXPIRY is set. */
const paymentExpiry = (config: PartConfig<"relay">) =>
  Option.match(config.paymentExpiry, {
    onNone: () => Effect.never,
    onSome: (after) =>
      Effect.gen(function*() {
        const part = (yield* Health).part("payment-expiry")
        return yield* supervise(part, Expiry.serve(yield* Expiry.make(after), part))
      })
  })

/** Runs the services of a role, each under its own supervisor, until interrupted or until one fails for good. */
export const run = Effect.fnUntraced(function*(role: Role, config: Config) {
  switch (role) {
    case "consumer":
      return yield* supervised("inventory-consumer", (part) => inventoryConsumer(config, part))
    case "relay":
      return yield* Effect.all([
        supervised("outbox-relay", (part) => outboxRelay(config, part)),
        supervised("outbox-pruner", (part) => Pruner.serve({ retention: config.outboxRetention, part })),
        paymentExpiry(config)
      ], { concurrency: "unbounded", discard: true })
    case "grpc":
      return yield* Servers.grpc(config, drainTimeout(config))
    case "console":
      // the operations server serves it
      return yield* Effect.never
  }
})
