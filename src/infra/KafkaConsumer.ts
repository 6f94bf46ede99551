import type { Scope } from "effect"
import { Cause, Data, Deferred, Duration, Effect, FiberSet, Option, Schedule, Schema } from "effect"
import type { Consumer, EachBatchPayload, KafkaMessage } from "kafkajs"
import * as Bell from "./Bell.js"
import type { KafkaOptions, KafkaUnavailable } from "./Kafka.js"
import { attempt, client, close, reason } from "./Kafka.js"

/** kafkajs gave up on the group or on a broker. A new consumer takes up where the committed offsets are. */
export class ConsumerCrashed extends Schema.TaggedError<ConsumerCrashed>()("ConsumerCrashed", {
  cause: Schema.Defect
}) {
  override get message() {
    return `the kafka consumer stopped: ${reason(this.cause)}`
  }
}

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

/** Headers of a record, each once or several times. */
export type IncomingHeaders = NonNullable<KafkaMessage["headers"]>

/** A record as it was read. */
export type IncomingRecord = Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp">

/** Records of one partition, in their order. */
export interface Batch {
  readonly topic: string
  readonly partition: number
  readonly records: ReadonlyArray<IncomingRecord>
  /** Records of the partition that are still to be read after this batch. */
  readonly lag: number
  /** False when the batch is to be left: the consumer stops, or the partition went to another. */
  readonly mayContinue: () => boolean
  /** These records are done with, up to and with `offset`, which is committed within a second. */
  readonly resolve: (offset: string) => void
}

/** Several may be lost on the way. */
const heartbeatInterval = ({ sessionTimeout }: ConsumerOptions) => Duration.times(sessionTimeout, 0.2)

/**
 * kafkajs commits after each batch, and fetches nothing before that is answered: at a hundred records a second that is a
 * third of all requests, and as much of the time that a record waits. So offsets are committed when so many records are
 * done with, after a pause, and before the group or the consumer goes; whoever reads some again knows them.
 */
const commits = { records: 1_000, pause: Duration.seconds(1) }

const acquire = (options: ConsumerOptions): Effect.Effect<Consumer, never, Scope.Scope> =>
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
    // waits for the batches in hand, commits their offsets and leaves the group
    (consumer) => close(() => consumer.disconnect(), options.drainTimeout)
  )

/** The group does not keep us: the batch is somebody else's now. */
class MembershipLost extends Data.TaggedError("MembershipLost")<{ readonly cause: unknown }> {}
const isMembershipLost = (error: unknown): error is MembershipLost => error instanceof MembershipLost

const keepMembership = (payload: EachBatchPayload, interval: Duration.Duration) =>
  Effect.tryPromise({ try: () => payload.heartbeat(), catch: (cause) => new MembershipLost({ cause }) }).pipe(
    Effect.delay(interval),
    Effect.forever
  )

/** A broker that has just started, or moves the group elsewhere: kafkajs does not wait for it when it joins. */
const isMoving = (error: unknown) =>
  error instanceof ConsumerCrashed &&
  ["GROUP_LOAD_IN_PROGRESS", "GROUP_COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR_FOR_GROUP"].includes(
    reason(error.cause)
  )

/**
 * Consumes `topic` until interrupted, or until the handler or the consumer fails.
 *
 * The offset of a partition moves only over records that the handler has resolved, and no further record of that
 * partition is fetched before it ends: that is all the back-pressure there needs to be.
 */
export const consume = <E, R>(
  options: ConsumerOptions,
  handle: (batch: Batch) => Effect.Effect<void, E, R>
): Effect.Effect<never, KafkaUnavailable | ConsumerCrashed | E, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    // made before the consumer, so closed after it: first the drain, then the interruption of what is left
    const handlers = yield* FiberSet.make<void, unknown>()
    const fork = yield* FiberSet.runtime(handlers)<R>()
    const ended = yield* Deferred.make<never, ConsumerCrashed | E>()
    const consumer = yield* acquire(options)
    /** Offsets of what is done with, and not committed: known from the first batch on. */
    let uncommitted: EachBatchPayload["uncommittedOffsets"] = () => ({ topics: [] })
    /** Records since the last commit. */
    let done = 0
    /** Rings when there is something to commit: without that there is nothing to wake up for. */
    const begun = Bell.make()
    const commit = Effect.suspend(() => {
      done = 0
      const offsets = uncommitted().topics.flatMap(({ partitions, topic }) =>
        partitions.map(({ offset, partition }) => ({ topic, partition, offset }))
      )
      return offsets.length === 0 ? Effect.void : attempt(() => consumer.commitOffsets(offsets))
    }).pipe(
      // the next one has them too, or whoever reads the records again
      Effect.catchAll((error) => Effect.map(Effect.logDebug("offsets are not committed yet", error), begun.ring))
    )
    yield* Effect.addFinalizer(() => commit.pipe(Effect.interruptible, Effect.timeoutOption("2 seconds")))
    yield* begun.rung.pipe(
      Effect.zipRight(Effect.delay(commit, commits.pause)),
      Effect.forever,
      Effect.forkScoped
    )
    consumer.on(consumer.events.REBALANCING, () => void fork(commit))

    consumer.on(consumer.events.CRASH, ({ payload }) => {
      Deferred.unsafeDone(ended, Effect.fail(new ConsumerCrashed({ cause: payload.error })))
    })
    if (options.onJoin !== undefined) {
      consumer.on(consumer.events.GROUP_JOIN, () => void fork(options.onJoin! as Effect.Effect<void>))
    }

    const eachBatch = (payload: EachBatchPayload) =>
      new Promise<void>((resolve, reject) => {
        const { batch } = payload
        uncommitted = payload.uncommittedOffsets
        /** A stop waits for this batch, and asks nobody afterwards. */
        const settle = () => {
          done += batch.messages.length
          if (payload.isRunning() && done < commits.records) return resolve()
          done = 0
          return payload.commitOffsetsIfNecessary(payload.uncommittedOffsets()).then(resolve, reject)
        }
        const handled = handle({
          topic: batch.topic,
          partition: batch.partition,
          records: batch.messages,
          lag: Number(batch.offsetLag()),
          mayContinue: () => payload.isRunning() && !payload.isStale(),
          resolve: (offset) => {
            payload.resolveOffset(offset)
            begun.ring()
          }
        }).pipe(
          Effect.tapErrorCause((cause) =>
            Cause.isInterruptedOnly(cause) ? Effect.void : Deferred.failCause(ended, cause)
          )
        )
        fork(Effect.raceFirst(handled, keepMembership(payload, heartbeatInterval(options)))).addObserver((exit) =>
          exit._tag === "Success"
            ? settle()
            // kafkajs tells by its own error that it has to join the group again
            : reject(Option.match(Option.filter(Cause.failureOption(exit.cause), isMembershipLost), {
              onNone: () => new Error("the batch was not finished"),
              onSome: ({ cause }) => cause
            }))
        )
      })

    yield* attempt(() => consumer.connect())
    // a new group begins at the earliest record
    yield* attempt(() => consumer.subscribe({ topics: [options.topic], fromBeginning: true }))
    yield* attempt(() =>
      consumer.run({
        partitionsConsumedConcurrently: options.concurrency,
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch
      })
    )
    return yield* Deferred.await(ended)
  }).pipe(
    Effect.scoped,
    Effect.retry({ while: isMoving, schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(50)) })
  )
