import { Duration, Effect, Fiber, Schema } from "effect"
import type { Admin } from "kafkajs"
import { Kafka, logLevel } from "kafkajs"
import * as KafkaSockets from "./KafkaSockets.js"
import * as Patches from "./patches/Patches.js"

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

/** By client: how to leave it. */
const sockets = new WeakMap<Kafka, KafkaSockets.Sockets>()

/**
 * A client whose waits are short: going on in an outage is the caller's decision, not the library's. `retries` is how
 * often it tries again to connect: each of its attempts takes the next one of the brokers.
 */
export const client = ({ brokers, clientId }: KafkaOptions, retries = 3) => {
  Patches.install()
  const opened = KafkaSockets.make(brokers)
  const kafka = new Kafka({
    brokers: [...brokers],
    clientId,
    socketFactory: opened.factory,
    // what fails is told by typed errors; the library would tell it a second time
    logLevel: logLevel.NOTHING,
    connectionTimeout: 3_000,
    // longer than a broker takes for anything, but for what kafkajs knows to take longer
    requestTimeout: 10_000,
    retry: { retries: Math.max(retries, brokers.length - 1), initialRetryTime: 50, maxRetryTime: 1_000 }
  })
  sockets.set(kafka, opened)
  return kafka
}

/** A promise of kafkajs, which cannot be cancelled: leaving early would leak what it is about to open. */
export const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, KafkaUnavailable> =>
  Effect.uninterruptible(Effect.tryPromise({ try: f, catch: (cause) => new KafkaUnavailable({ cause }) }))

/** How long an interruption waits for a promise that opens something: one that is answered ends in order. */
const grace = Duration.seconds(1)

/**
 * A promise of kafkajs that connects, or that nobody needs any more once it is interrupted. The interruption destroys the
 * sockets of the client, and the client opens none any more.
 */
export const connecting = <A>(kafka: Kafka, f: () => Promise<A>): Effect.Effect<A, KafkaUnavailable> =>
  Effect.async((resume) => {
    const promise = f().then(Effect.succeed, (cause: unknown) => Effect.fail(new KafkaUnavailable({ cause })))
    void promise.then(resume)
    return Effect.promise(() => promise).pipe(
      Effect.interruptible,
      Effect.timeoutOption(grace),
      Effect.zipRight(leave(kafka))
    )
  })

/** A promise that puts something in order at the end: bounded, and never a failure. */
export const finish = (f: () => Promise<unknown>, limit: Duration.DurationInput) =>
  Effect.tryPromise(f).pipe(
    Effect.interruptible,
    Effect.timeout(limit),
    Effect.catchAll((error) => Effect.logDebug("kafka connection did not close cleanly", error))
  )

const leave = (kafka: Kafka) => Effect.sync(() => sockets.get(kafka)?.leave())

/** Closes a part of a client. No socket of the client outlives it. */
export const close = (
  kafka: Kafka,
  part: { readonly disconnect: () => Promise<unknown> },
  limit: Duration.DurationInput
) => Effect.ensuring(finish(() => part.disconnect(), limit), leave(kafka))

/** Interruption ends the connections of the client first: what cannot be interrupted fails then. */
const leaving = (kafka: Kafka) => <A, E, R>(use: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDaemon(restore(use)), (fiber) =>
      restore(Fiber.join(fiber)).pipe(
        Effect.onInterrupt(() => Effect.zipRight(leave(kafka), Fiber.interrupt(fiber)))
      ))
  )

/** Runs `use` with an administrator's connection of its own. */
export const withAdmin = <A, E, R>(options: KafkaOptions, use: (admin: Admin) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const kafka = client(options, 1)
    return Effect.acquireUseRelease(
      Effect.sync(() => kafka.admin({ retry: { retries: 3 } })),
      (admin) =>
        Effect.zipRight(connecting(kafka, () => admin.connect()), leaving(kafka)(Effect.suspend(() => use(admin)))),
      (admin) => close(kafka, admin, "2 seconds")
    )
  })

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
