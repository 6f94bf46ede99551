import type { Scope } from "effect"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, FiberSet, Schedule } from "effect"
import type { EachBatchPayload, KafkaMessage } from "kafkajs"
import * as Bell from "./Bell.js"
import type { KafkaUnavailable } from "./Kafka.js"
import { attempt } from "./Kafka.js"
import type { ConsumerOptions } from "./KafkaGroup.js"
import * as KafkaGroup from "./KafkaGroup.js"

/** Headers of a record, each once or several times. */
export type IncomingHeaders = NonNullable<KafkaMessage["headers"]>

/** What the reader did not keep, because it is too large or cannot be decoded. */
export interface Unread {
  /** Why, without any of the payload. */
  readonly reason: string
  /** Size in bytes of what was not kept: the value, the whole record where it has too many headers, or the batch. */
  readonly bytes: number
  /** Its SHA-256, in hexadecimal digits. */
  readonly sha256: string
}

/** A record as it was read. */
export interface IncomingRecord extends Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp"> {
  /** Not there when all of the record was read. Where it is, key, value and headers are what was kept: their beginning, or nothing. */
  readonly unread?: Unread
}

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

/**
 * A commit waits in line behind the fetch that is open, and is a third of all requests at a hundred records a second. So
 * offsets are committed when so many records are done with, after a pause, and before the group or the consumer goes;
 * whoever reads some again knows them.
 */
const commits = { records: 1_000, pause: Duration.seconds(1) }

/** What the group has given to this consumer, from one join to the next. By partition throughout. */
interface Assignment {
  /** Who works on the last batch. */
  readonly work: Map<number, Fiber.RuntimeFiber<void, unknown>>
  /**
   * The offset after the last record that is done with, of a batch that is not done with as a whole; none before its
   * first record. kafkajs reads on meanwhile, so where it stands is no offset to commit.
   */
  readonly done: Map<number, string | undefined>
  /** False when nothing more is to be begun. */
  open: boolean
  /** Why the group does not keep us. */
  lost: KafkaGroup.MembershipLost | undefined
}

const after = (offset: string) => String(BigInt(offset) + 1n)

/**
 * Consumes `topic` until interrupted, or until the handler or the consumer fails.
 *
 * The committed offset of a partition moves only over records that the handler has resolved. While it has one batch of
 * a partition, the next is fetched and waits: that is all the back-pressure there needs to be.
 */
export const consume = <E, R>(
  options: ConsumerOptions,
  handle: (batch: Batch) => Effect.Effect<void, E, R>
): Effect.Effect<never, KafkaUnavailable | KafkaGroup.ConsumerCrashed | E, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    const workers = yield* FiberSet.make<void, unknown>()
    const fork = yield* FiberSet.runtime(workers)<R>()
    const ended = yield* Deferred.make<never, KafkaGroup.ConsumerCrashed | E>()
    const places = yield* Effect.makeSemaphore(options.concurrency)
    const consumer = yield* KafkaGroup.member(options)
    let assignment: Assignment = { work: new Map(), done: new Map(), open: true, lost: undefined }
    let stopping = false

    /** The last batch that kafkajs gave: it also tells where kafkajs stands. */
    let newest: EachBatchPayload | undefined
    /** Records since the last commit. */
    let uncommitted = 0
    /** They ring when there is something to commit, without which there is nothing to wake up for, and when it is much. */
    const [begun, enough] = [Bell.make(), Bell.make()]
    const commit = Effect.suspend(() => {
      uncommitted = 0
      const offsets = newest === undefined ? [] : KafkaGroup.committable(newest, assignment.done)
      return offsets.length === 0 ? Effect.void : attempt(() => consumer.commitOffsets(offsets))
    }).pipe(
      // the next one has them too, or whoever reads the records again
      Effect.catchAll((error) => Effect.map(Effect.logDebug("offsets are not committed yet", error), begun.ring))
    )
    yield* begun.rung.pipe(
      Effect.zipRight(Effect.raceFirst(Effect.sleep(commits.pause), enough.rung)),
      Effect.zipRight(commit),
      Effect.forever,
      Effect.forkScoped
    )

    yield* Effect.addFinalizer(() => {
      stopping = true
      assignment.open = false
      return FiberSet.awaitEmpty(workers).pipe(
        Effect.interruptible,
        Effect.timeoutOption(options.drainTimeout),
        Effect.zipRight(FiberSet.clear(workers)),
        Effect.zipRight(commit.pipe(Effect.interruptible, Effect.timeoutOption("2 seconds")))
      )
    })

    const working = () =>
      Array.from(assignment.work.values()).some((worker) => worker.unsafePoll() === null) ? newest : undefined
    yield* KafkaGroup.keep(options, working, (lost) => {
      assignment.open = false
      assignment.lost ??= lost
      return Fiber.interruptAll(assignment.work.values())
    })

    /** What is in hand is somebody else's from now on. */
    const leave = () => {
      assignment.open = false
      fork(commit)
      fork(Fiber.interruptAll(assignment.work.values()))
    }
    consumer.on(consumer.events.REBALANCING, leave)
    consumer.on(consumer.events.GROUP_JOIN, () => {
      leave()
      // a batch waits for the last one of its partition, also for one that is being left
      assignment = { work: new Map(assignment.work), done: new Map(), open: !stopping, lost: undefined }
      if (options.onJoin !== undefined) fork(options.onJoin)
    })
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      Deferred.unsafeDone(ended, Effect.fail(new KafkaGroup.ConsumerCrashed({ cause: payload.error })))
    })

    const begin = (payload: EachBatchPayload, given: Assignment) => {
      const { messages, partition, topic } = payload.batch
      const last = messages.at(-1)!.offset
      given.done.set(partition, undefined)
      // the next fetch begins there
      payload.resolveOffset(last)
      const worker = fork(
        handle({
          topic,
          partition,
          records: messages,
          lag: Number(payload.batch.offsetLag()),
          mayContinue: () => given.open,
          resolve: (offset) => {
            given.done.set(partition, after(offset))
            begun.ring()
          }
        }).pipe(
          places.withPermits(1),
          Effect.tapErrorCause((cause) =>
            Cause.isInterruptedOnly(cause) ? Effect.void : Deferred.failCause(ended, cause)
          )
        )
      )
      given.work.set(partition, worker)
      worker.addObserver((exit) => {
        if (Exit.isFailure(exit)) given.open = false
        else if (given.done.get(partition) === after(last)) {
          given.done.delete(partition)
          uncommitted += messages.length
          if (uncommitted >= commits.records) enough.ring()
        }
      })
    }

    const eachBatch = (payload: EachBatchPayload) =>
      new Promise<void>((resolve, reject) => {
        const given = assignment
        newest = payload
        const next = () => {
          if (given.open) return resolve(begin(payload, given))
          // kafkajs tells by its own error that it has to join the group again
          reject(given.lost?.cause ?? new Error("no further batch is begun"))
        }
        const last = given.work.get(payload.batch.partition)
        return last === undefined ? next() : last.addObserver(next)
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
    Effect.retry({
      while: KafkaGroup.isMoving,
      schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(50))
    })
  )
