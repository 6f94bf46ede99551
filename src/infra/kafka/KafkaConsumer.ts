import type { Scope } from "effect"
import { Cause, Deferred, Duration, Effect, Exit, FiberSet, Schedule } from "effect"
import type { EachBatchPayload } from "kafkajs"
import { beside } from "../runtime/Beside.js"
import type { Batch } from "./KafkaBatch.js"
import type { KafkaUnavailable } from "./KafkaClient.js"
import { attempt, connecting } from "./KafkaClient.js"
import * as KafkaCommits from "./KafkaCommits.js"
import type { ConsumerOptions } from "./KafkaGroup.js"
import * as KafkaGroup from "./KafkaGroup.js"
import { untilSettled } from "./KafkaOffsets.js"
import type { Skip } from "./KafkaPositions.js"
import type { LastSeen } from "./KafkaStart.js"
import * as KafkaStart from "./KafkaStart.js"
import * as KafkaTopic from "./KafkaTopic.js"
import * as KafkaWait from "./KafkaWait.js"
import type { Assignment } from "./KafkaWork.js"
import * as KafkaWork from "./KafkaWork.js"

export type { Batch } from "./KafkaBatch.js"
export type { IncomingHeaders, IncomingRecord } from "./KafkaRecord.js"

/** Pause between two requests for the ends of the partitions and for new partitions. */
const lookEvery = Duration.seconds(2)

/**
 * Consumes `topic` until interrupted, or until the handler or the consumer fails.
 *
 * The committed offset of a partition moves only over records that the handler has resolved. While the handler works on a
 * batch of a partition, the next batch is fetched and waits, and other partitions go on. With `onStanding` the consumer waits
 * for a missing topic. When the topic does not have the committed offset any more, reading goes on at its first record, and
 * `onSkip` gets the gap.
 */
export const consume = <E, R>(
  options: ConsumerOptions,
  handle: (batch: Batch) => Effect.Effect<void, E, R>
): Effect.Effect<never, KafkaUnavailable | KafkaGroup.ConsumerCrashed | E, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    const topic = yield* KafkaTopic.make(options, options.topic, options.groupId)
    const clock = yield* Effect.clock
    /** Milliseconds of the epoch by the monotonic clock: a clock that is set back must not hide a stall. */
    const now = () => Number(clock.unsafeCurrentTimeNanos() / 1_000_000n)
    const wait = KafkaWait.make(options.groupId, now())
    let lastSeen: LastSeen | undefined
    /** The last reported skip of each partition. A start finds it again until an offset behind it is committed. */
    const reported = new Map<number, Skip>()
    const report = (skip: Skip) => {
      const { from, to } = reported.get(skip.partition) ?? {}
      if (from === skip.from && to === skip.to) return Effect.void
      reported.set(skip.partition, skip)
      return options.onSkip?.(skip) ?? Effect.void
    }
    const look = Effect.tapBoth(topic.look, {
      onFailure: (error) => Effect.sync(() => wait.failed(error)),
      onSuccess: (look) => Effect.sync(() => wait.looked(now(), look))
    })

    const session = Effect.gen(function*() {
      // a subscription to a missing topic would fail, or make the broker create the topic
      let { partitions: knownPartitions } = yield* untilSettled(look)
      const workers = yield* FiberSet.make<void, unknown>()
      const fork = yield* FiberSet.runtime(workers)<R>()
      const chores = yield* FiberSet.makeRuntime<never, unknown, unknown>()
      const ended = yield* Deferred.make<never, KafkaGroup.ConsumerCrashed | KafkaUnavailable | E>()
      const { consumer, kafka, lookForPartitions, thinksLeaderless } = yield* KafkaGroup.member(options)
      /** The consumer is a member of the group, and may begin work. */
      let open = false
      let failed = false
      let newest: EachBatchPayload | undefined

      const at = (partitions: ReadonlyArray<number>) => [{ topic: options.topic, partitions: [...partitions] }]
      const work = KafkaWork.make<E, R>({
        topic: options.topic,
        handle,
        permits: yield* Effect.makeSemaphore(options.concurrency),
        fork,
        now,
        pause: (partitions) => open && consumer.pause(at(partitions)),
        resume: (partitions) => open && consumer.resume(at(partitions)),
        onDone: () => commits.due(),
        onFailure: (cause) => fail(cause),
        limit: KafkaCommits.policy.limit
      })
      const commits = KafkaCommits.make({ ...work, topic: options.topic, consumer, newest: () => newest })

      const fail = (cause: Cause.Cause<KafkaGroup.ConsumerCrashed | KafkaUnavailable | E>) => {
        work.take()
        open = false
        failed = true
        Deferred.unsafeDone(ended, Exit.failCause(cause))
      }

      /** Finds the positions of an assignment, and begins to read there. A partition without a leader begins when it has one. */
      const start = (given: Assignment) => {
        const isCurrent = () => open && given === work.assignment()
        const begin = (partitions: ReadonlyArray<number>) =>
          Effect.gen(function*() {
            const starts = yield* KafkaStart.find({ ...topic, look }, partitions, lastSeen, now)
            const { cells, leaderless, skips, topicId } = starts
            if (!isCurrent()) return []
            given.topicId = topicId
            for (const cell of cells) {
              const { partition, progress } = cell
              given.cells.set(partition, cell)
              consumer.seek({ topic: options.topic, partition, offset: String(progress.done) })
            }
            wait.joined(now(), given.partitions, given.cells)
            if (cells.length > 0) consumer.resume(at(cells.map(({ partition }) => partition)))
            commits.due()
            for (const skip of skips) yield* report(skip)
            if (cells.length > 0 || partitions.length === 0) yield* options.onJoin ?? Effect.void
            return leaderless
          }).pipe(
            Effect.tapError((error) => Effect.sync(() => wait.failed(error))),
            Effect.retry({ schedule: Schedule.spaced("500 millis"), while: isCurrent })
          )
        return Effect.gen(function*() {
          let rest = yield* begin(given.partitions)
          while (rest.length > 0) rest = yield* Effect.delay(begin(rest), "500 millis")
        }).pipe(Effect.ignore)
      }

      consumer.on(
        consumer.events.END_BATCH_PROCESS,
        ({ payload: { lastOffset, partition } }) => work.pass(partition, lastOffset)
      )
      consumer.on(consumer.events.FETCH, () => wait.fetched(now()))
      // other members may work on the same records from now on
      consumer.on(consumer.events.REBALANCING, () => {
        work.take()
        wait.left(now())
        fork(commits.commit)
        chores(work.interruptAll)
      })
      consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
        if (failed) return
        open = true
        const given = work.assign(memberAssignment[options.topic] ?? [])
        chores(work.interruptAll)
        chores(start(given))
      })
      consumer.on(consumer.events.CRASH, ({ payload }) => {
        open = false
        wait.left(now())
        fail(Cause.fail(new KafkaGroup.ConsumerCrashed({ cause: payload.error })))
      })

      const lookAgain = Effect.gen(function*() {
        const { leaderless, partitions, topicId } = yield* look
        const { cells, topicId: before } = work.assignment()
        if (before !== "" && topicId !== before) return fail(Cause.fail(KafkaGroup.topicChanged(options.topic)))
        lastSeen = { topicId, unread: new Map(Array.from(cells.keys(), (_) => [_, wait.unread(_) ?? 0n])) }
        // kafkajs asks for leaders only when a broker or a partition is lost
        const thought = yield* Effect.orElseSucceed(Effect.try(thinksLeaderless), () => [])
        const ledAgain = thought.some((partition) => !leaderless.includes(partition))
        if (partitions <= knownPartitions && !ledAgain) return
        yield* attempt(lookForPartitions)
        knownPartitions = partitions
      }).pipe(Effect.catchAll((error) => Effect.logDebug("the request for the topic failed", error)))
      for (const repeated of [commits.run, Effect.forever(Effect.delay(lookAgain, lookEvery))]) {
        yield* repeated.pipe(Effect.tapDefect((cause) => Effect.sync(() => fail(cause))), Effect.forkScoped)
      }

      yield* Effect.addFinalizer(() => {
        work.take()
        open = false
        return FiberSet.awaitEmpty(workers).pipe(
          Effect.interruptible,
          // after a failure the work in progress is given up
          Effect.timeoutOption(failed ? "100 millis" : options.drainTimeout),
          Effect.zipRight(FiberSet.clear(workers)),
          Effect.zipRight(commits.commit.pipe(Effect.interruptible, Effect.timeoutOption("2 seconds")))
        )
      })

      yield* connecting(kafka, () => consumer.connect())
      // a new group begins at the first record
      yield* connecting(kafka, () => consumer.subscribe({ topics: [options.topic], fromBeginning: true }))
      yield* connecting(kafka, () =>
        consumer.run({
          partitionsConsumedConcurrently: options.concurrency,
          autoCommit: false,
          eachBatchAutoResolve: false,
          eachBatch: (payload) => {
            newest = payload
            work.give(payload)
            return Promise.resolve()
          }
        }))
      return yield* Deferred.await(ended)
    }).pipe(Effect.scoped)

    const member = session.pipe(
      Effect.retry({
        while: KafkaGroup.isMoving,
        schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(50))
      }),
      Effect.retry({
        while: (error) => KafkaGroup.hasLostItsPlace(error, options.onStanding !== undefined),
        schedule: Schedule.spaced("500 millis")
      })
    )
    return yield* beside(
      member,
      options.onStanding === undefined ? [] : [KafkaWait.watch(wait, now, options.onStanding)]
    )
  }).pipe(Effect.scoped)
