import { Duration, Effect, Fiber, Schema } from "effect"
import type { Admin } from "kafkajs"
import { Kafka, logLevel } from "kafkajs"
import type { Reason } from "../runtime/Problem.js"
import * as KafkaLogin from "./KafkaLogin.js"
import type { KafkaSecurity } from "./KafkaSecurity.js"
import * as KafkaSockets from "./KafkaSockets.js"
import * as Login from "./patches/Login.js"
import * as Patches from "./patches/Patches.js"

export type { Admin } from "kafkajs"

/** How to reach the brokers. */
export interface KafkaOptions {
  readonly brokers: ReadonlyArray<string>
  readonly clientId: string
  /** Default: neither encrypted nor authenticated. */
  readonly security?: KafkaSecurity | undefined
}

/** The brokers do not answer in time, or answer with an error. A later attempt may work. */
export class KafkaUnavailable extends Schema.TaggedError<KafkaUnavailable>()("KafkaUnavailable", {
  cause: Schema.Defect
}) {
  /** This user may not see the topic: Kafka does not say whether it exists. */
  static readonly denied = (topic: string) =>
    new KafkaUnavailable({
      cause: new Error(
        `this user may not see topic ${topic}: grant it READ or WRITE on the topic (TOPIC_AUTHORIZATION_FAILED)`
      )
    })

  get waitsFor(): Reason {
    return this.cause instanceof TopicMissing ? "topic" : waitsFor(reason(this.cause))
  }

  override get message() {
    if (this.cause instanceof TopicMissing) return this.cause.message
    const why = reason(this.cause)
    return waitsFor(why) === "permission" ? `kafka refuses us access: ${why}` : `kafka is not available: ${why}`
  }
}

/** The topic does not exist, and this process must not create it. */
export class TopicMissing extends Schema.TaggedError<TopicMissing>()("TopicMissing", {
  topic: Schema.String
}) {
  readonly waitsFor = "topic"

  override get message() {
    return `topic ${this.topic} does not exist: create it, or set KAFKA_CREATE_TOPICS=true`
  }
}

/** The error type of the protocol, or else the innermost message. Each layer of kafkajs wraps an error once more. */
export const reason = (error: unknown): string => {
  if (typeof error !== "object" || error === null) return String(error)
  if ("type" in error && typeof error.type === "string") return error.type
  if ("cause" in error && error.cause instanceof Error && error.cause !== error) return reason(error.cause)
  return error instanceof Error ? error.message : "unknown"
}

/** What the caller of a failed request waits for, by the `reason` of its error. */
export const waitsFor = (type: string): Reason =>
  /_AUTHORIZATION_FAILED\)?$/.test(type) || Login.isRefusal(type)
    ? "permission"
    // a person has to correct KAFKA_SESSION_TIMEOUT
    : type === "INVALID_SESSION_TIMEOUT"
    ? "operator"
    : "kafka"

/** The sockets of each client. */
const sockets = new WeakMap<Kafka, KafkaSockets.Sockets>()

/**
 * A client with short waits: the caller decides how to go on in an outage. `retries` is the number of further attempts to
 * connect. Each attempt takes the next broker of the list.
 */
export const client = ({ brokers, clientId, security = {} }: KafkaOptions, retries = 3) => {
  Patches.install()
  const opened = KafkaSockets.make(brokers, security.tls)
  const kafka = new Kafka({
    brokers: [...brokers],
    clientId,
    socketFactory: opened.factory,
    ...(security.sasl === undefined ? {} : { sasl: KafkaLogin.options(security.sasl) }),
    // the service logs typed errors; the library would log them again
    logLevel: logLevel.NOTHING,
    connectionTimeout: 3_000,
    // no request takes a broker longer, except those that kafkajs gives a longer time itself
    requestTimeout: 10_000,
    retry: { retries: Math.max(retries, brokers.length - 1), initialRetryTime: 50, maxRetryTime: 1_000 }
  })
  sockets.set(kafka, opened)
  return kafka
}

/** Runs a promise of kafkajs. It cannot be cancelled, and an interruption would leak a resource that it opens. */
export const attempt = <A>(f: () => Promise<A>): Effect.Effect<A, KafkaUnavailable> =>
  Effect.uninterruptible(Effect.tryPromise({ try: f, catch: (cause) => new KafkaUnavailable({ cause }) }))

/** Time that an interruption gives a promise that connects. With an answer in this time it ends in order. */
const grace = Duration.seconds(1)

/**
 * Runs a promise of kafkajs that connects a client. An interruption destroys the sockets of the client, and the client opens
 * no more.
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

/** Runs a promise that cleans up. It ends within the limit, and logs a failure at debug level. */
export const finish = (f: () => Promise<unknown>, limit: Duration.DurationInput) =>
  Effect.tryPromise(f).pipe(
    Effect.interruptible,
    Effect.timeout(limit),
    Effect.catchAll((error) => Effect.logDebug("kafka connection did not close cleanly", error))
  )

const leave = (kafka: Kafka) => Effect.sync(() => sockets.get(kafka)?.leave())

/** Closes a consumer, producer or admin, and then all sockets of its client. */
export const close = (
  kafka: Kafka,
  part: { readonly disconnect: () => Promise<unknown> },
  limit: Duration.DurationInput
) => Effect.ensuring(finish(() => part.disconnect(), limit), leave(kafka))

/** An interruption destroys the sockets of the client first, so that calls that cannot be interrupted fail. */
const leaving = (kafka: Kafka) => <A, E, R>(use: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDaemon(restore(use)), (fiber) =>
      restore(Fiber.join(fiber)).pipe(
        Effect.onInterrupt(() => Effect.zipRight(leave(kafka), Fiber.interrupt(fiber)))
      ))
  )

/** Runs `use` with an admin client of its own. */
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

/** Whether the brokers hide the topic from this user. */
const isDenied = (admin: Admin, topic: string) =>
  Effect.match(attempt(() => admin.fetchTopicMetadata({ topics: [topic] })), {
    onSuccess: () => false,
    onFailure: ({ cause }) => reason(cause) === "TOPIC_AUTHORIZATION_FAILED"
  })

/** The topics of `wanted` that do not exist. Fails when this user may not see one of them. */
export const missingTopics = (admin: Admin, wanted: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const existing = yield* attempt(() => admin.listTopics())
    const missing = wanted.filter((topic) => !existing.includes(topic))
    for (const topic of missing) {
      if (yield* isDenied(admin, topic)) return yield* KafkaUnavailable.denied(topic)
    }
    return missing
  })

/** A topic to create. */
export interface NewTopic {
  readonly topic: string
  /** Largest record, with key and headers. Default: the broker's own limit. */
  readonly maxMessageBytes?: number
}

/** Creates topics with 4 partitions and the replication of the broker. Another process may create the same topics. */
export const createTopics = (admin: Admin, topics: ReadonlyArray<NewTopic>) =>
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
  )
