import type { Scope } from "effect"
import { Data, Duration, Effect, Schema } from "effect"
import type { Consumer, EachBatchPayload } from "kafkajs"
import type { KafkaOptions } from "./Kafka.js"
import { client, close, reason } from "./Kafka.js"

/** kafkajs gave up on the group or on a broker. A new consumer takes up where the committed offsets are. */
export class ConsumerCrashed extends Schema.TaggedError<ConsumerCrashed>()("ConsumerCrashed", {
  cause: Schema.Defect
}) {
  override get message() {
    return `the kafka consumer stopped: ${reason(this.cause)}`
  }
}

/** A consumer, and the group that it shares a topic with. */
export interface ConsumerOptions extends KafkaOptions {
  readonly groupId: string
  /** The group keeps a member that is heard from within this time; a batch is worked on in the background of that. */
  readonly sessionTimeout: Duration.Duration
  readonly topic: string
  /** How many partitions are worked on at the same time. */
  readonly concurrency: number
  /** How long a stop waits for the batches in hand. */
  readonly drainTimeout: Duration.DurationInput
  /** Told when the group has given this consumer its partitions. */
  readonly onJoin?: Effect.Effect<void>
}

/** Several may be lost on the way. */
const heartbeatInterval = ({ sessionTimeout }: ConsumerOptions) => Duration.times(sessionTimeout, 0.2)

/** A member of the group, until the scope ends. */
export const member = (options: ConsumerOptions): Effect.Effect<Consumer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() =>
      client(options).consumer({
        groupId: options.groupId,
        sessionTimeout: Duration.toMillis(options.sessionTimeout),
        rebalanceTimeout: Duration.toMillis(options.sessionTimeout),
        heartbeatInterval: Duration.toMillis(heartbeatInterval(options)),
        allowAutoTopicCreation: false,
        // what comes is answered at once, but a stop waits for the fetch that is open, and so does sharing the group anew
        maxWaitTimeInMs: 1_000,
        retry: {
          // a broker that restarts is waited for with our membership: a new member would wait for the old one's session
          retries: 10,
          initialRetryTime: 100,
          maxRetryTime: 1_000,
          // beyond that restarting is the supervisor's job: a crash is told, not mended behind its back
          restartOnFailure: () => Promise.resolve(false)
        }
      })
    ),
    // waits for the fetch that is open, and leaves the group
    (consumer) => close(() => consumer.disconnect(), "3 seconds")
  )

/** The group does not keep us: what is in hand is somebody else's now. */
export class MembershipLost extends Data.TaggedError("MembershipLost")<{ readonly cause: unknown }> {}

/**
 * Tells the group that we are here while there is work, which `working` answers: kafkajs does so only while it fetches,
 * and until a batch is done with there may be nothing to fetch. `lose` is told when the group does not keep us.
 */
export const keep = (
  options: ConsumerOptions,
  working: () => EachBatchPayload | undefined,
  lose: (why: MembershipLost) => Effect.Effect<unknown>
) =>
  Effect.suspend(() => {
    const payload = working()
    return payload === undefined
      ? Effect.void
      : Effect.tryPromise({ try: () => payload.heartbeat(), catch: (cause) => new MembershipLost({ cause }) })
  }).pipe(
    Effect.catchAll(lose),
    Effect.delay(heartbeatInterval(options)),
    Effect.forever,
    Effect.forkScoped
  )

/** What may be committed of the partitions that kafkajs has read: where it stands, or what `done` says instead. */
export const committable = ({ uncommittedOffsets }: EachBatchPayload, done: ReadonlyMap<number, string | undefined>) =>
  uncommittedOffsets().topics.flatMap(({ partitions, topic }) =>
    partitions.flatMap(({ offset: position, ...at }) => {
      // a text, whatever the types say
      const partition = Number(at.partition)
      const offset = done.has(partition) ? done.get(partition) : position
      return offset === undefined ? [] : [{ topic, partition, offset }]
    })
  )

/** A broker that has just started, or moves the group elsewhere: kafkajs does not wait for it when it joins. */
export const isMoving = (error: unknown) =>
  error instanceof ConsumerCrashed &&
  ["GROUP_LOAD_IN_PROGRESS", "GROUP_COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR_FOR_GROUP"].includes(
    reason(error.cause)
  )
