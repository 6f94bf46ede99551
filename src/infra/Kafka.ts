import type { Duration } from "effect"
import { Effect, Schema } from "effect"
import type { Admin } from "kafkajs"
import { Kafka, logLevel } from "kafkajs"
import "./KafkaConnection.js"
import "./KafkaAborted.js"
import "./KafkaIdle.js"

/** How to reach the brokers. */
export interface KafkaOptions {
  readonly brokers: ReadonlyArray<string>
  readonly clientId: string
}

/** The brokers do not answer, or not in time. Trying again later may work. */
export class KafkaUnavailable extends Schema.TaggedError<KafkaUnavailable>()("KafkaUnavailable", {
  cause: Schema.Defect
}) {
  override get message() {
    const why = reason(this.cause)
    return why.endsWith("_AUTHORIZATION_FAILED") ? `kafka refuses us access: ${why}` : `kafka is not available: ${why}`
  }
}

/** The topic does not exist, and nobody here may create it. */
export class TopicMissing extends Schema.TaggedError<TopicMissing>()("TopicMissing", {
  topic: Schema.String
}) {
  override get message() {
    return `topic ${this.topic} does not exist: create it, or set KAFKA_CREATE_TOPICS=true`
  }
}

/** kafkajs wraps an error once for each layer that gave up on it: the protocol's error type, or the innermost name. */
export const reason = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return String(error)
  if ("type" in error && typeof error.type === "string") return error.type
  if ("cause" in error && error.cause instanceof Error && error.cause !== error) return reason(error.cause)
  return error instanceof Error ? error.message : "unknown"
}

/** A client whose waits are short: going on in an outage is the caller's decision, not the library's. */
export const client = (options: KafkaOptions) =>
  new Kafka({
    brokers: [...options.brokers],
    clientId: options.clientId,
    // what fails is told by typed errors; the library would tell it a second time
    logLevel: logLevel.NOTHING,
    connectionTimeout: 3_000,
    // longer than a broker takes for anything, but for what kafkajs knows to take longer
    requestTimeout: 10_000,
    retry: { retries: 3, initialRetryTime: 50, maxRetryTime: 1_000 }
  })

/** A promise of kafkajs, which cannot be cancelled: leaving early would leak what it is about to open. */
export const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, KafkaUnavailable> =>
  Effect.uninterruptible(Effect.tryPromise({ try: f, catch: (cause) => new KafkaUnavailable({ cause }) }))

/** A promise that closes something: bounded, and never a failure. */
export const close = (f: () => Promise<unknown>, limit: Duration.DurationInput) =>
  Effect.tryPromise(f).pipe(
    Effect.interruptible,
    Effect.timeout(limit),
    Effect.catchAll((error) => Effect.logDebug("kafka connection did not close cleanly", error))
  )

/** Runs `use` with an administrator's connection of its own. */
export const withAdmin = <A, E, R>(options: KafkaOptions, use: (admin: Admin) => Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => client(options).admin()),
    (admin) => Effect.zipRight(attempt(() => admin.connect()), use(admin)),
    (admin) => close(() => admin.disconnect(), "2 seconds")
  )

/** The topics of `wanted` that do not exist. */
export const missingTopics = (options: KafkaOptions, wanted: ReadonlyArray<string>) =>
  withAdmin(options, (admin) =>
    Effect.map(
      attempt(() => admin.listTopics()),
      (existing) => wanted.filter((topic) => !existing.includes(topic))
    ))

/** A topic to create. */
export interface NewTopic {
  readonly topic: string
  /** Largest record, with key and headers. Default: the broker's own limit. */
  readonly maxMessageBytes?: number
}

/** Creates topics with 4 partitions and the broker's own replication. Another process may do the same meanwhile. */
export const createTopics = (options: KafkaOptions, topics: ReadonlyArray<NewTopic>) =>
  withAdmin(options, (admin) =>
    attempt(() =>
      admin.createTopics({
        topics: topics.map(({ maxMessageBytes, topic }) => ({
          topic,
          numPartitions: 4,
          replicationFactor: -1,
          configEntries: maxMessageBytes === undefined
            ? []
            : [{ name: "max.message.bytes", value: String(maxMessageBytes) }]
        })),
        waitForLeaders: true
      })
    ))
