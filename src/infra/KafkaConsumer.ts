import type { Scope } from "effect"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, FiberSet, Schedule } from "effect"
import type { EachBatchPayload, KafkaMessage } from "kafkajs"
import * as Bell from "./Bell.js"
import { attempt, connecting, KafkaUnavailable } from "./Kafka.js"
import type { ConsumerOptions } from "./KafkaGroup.js"
import * as KafkaGroup from "./KafkaGroup.js"
import { untilSettled } from "./KafkaOffsets.js"
import type { Skip } from "./KafkaPlaces.js"
import * as KafkaPlaces from "./KafkaPlaces.js"
import * as KafkaTopic from "./KafkaTopic.js"
import * as KafkaWait from "./KafkaWait.js"
import type { Given, Progress } from "./PartitionProgress.js"
import * as PartitionProgress from "./PartitionProgress.js"

/** Headers of a record, each once or several times. */
export type IncomingHeaders = NonNullable<KafkaMessage["headers"]>

/** A record as it was read. */
export type IncomingRecord = Pick<KafkaMessage, "key" | "value" | "headers" | "offset" | "timestamp">

/** Records of one partition, in their order. */
export interface Batch {
  readonly topic: string
  readonly partition: number
  readonly records: ReadonlyArray<IncomingRecord>
  /** False when the batch is to be left: the consumer stops, or the partition went to another. */
  readonly mayContinue: () => boolean
  /** These records are done with, up to and with `offset`, which is committed within a second. */
  readonly resolve: (offset: string) => void
}

/**
 * A commit is a request to the coordinator, of which there would be one for each batch. Offsets are committed when so
 * many records are done with, after a pause, and before the group or the consumer goes. While so many are done with and
 * not committed, no further batch is begun: who takes over after a crash reads no more than these again, and the batches
 * that were in hand.
 */
const commits = { records: 1_000n, pause: Duration.millis(700), limit: 10_000n }

/** How often the brokers are asked for the ends of the partitions, and for new partitions. */
const lookEvery = Duration.seconds(2)

/** A partition that the group has given to this consumer, until the group is shared anew. */
interface Cell {
  readonly partition: number
  progress: Progress<EachBatchPayload>
  /** How many records the group has never read, with those before this consumer. */
  readonly skipped: bigint
}

/** What the group has given to this consumer, from one join to the next. */
interface Assignment {
  readonly partitions: ReadonlyArray<number>
  /** Of those whose positions are known. */
  readonly cells: Map<number, Cell>
  topicId: string
}

/**
 * Consumes `topic` until interrupted, or until the handler or the consumer fails.
 *
 * The committed offset of a partition moves only over records that the handler has resolved. While it has one batch of
 * a partition, the next is fetched and waits, and other partitions go on. A topic that is away is waited for; where the
 * committed offset is not one of the topic any more, reading goes on at its first record, and `onSkip` is told.
 */
export const consume = <E, R>(
  options: ConsumerOptions,
  handle: (batch: Batch) => Effect.Effect<void, E, R>
): Effect.Effect<never, KafkaUnavailable | KafkaGroup.ConsumerCrashed | E, Exclude<R, Scope.Scope>> =>
  Effect.gen(function*() {
    const topic = yield* KafkaTopic.make(options, options.topic, options.groupId)
    const clock = yield* Effect.clock
    const now = () => clock.unsafeCurrentTimeMillis()
    const wait = KafkaWait.make(options.groupId, now())
    if (options.onStanding !== undefined) yield* KafkaWait.tell(wait, options.onStanding)
    /** What a topic that is gone had when it was seen last. */
    let lastSeen: { readonly topicId: string; readonly unread: ReadonlyMap<number, bigint> } | undefined

    const looked = Effect.tapBoth(topic.look, {
      onFailure: (error) => Effect.sync(() => wait.failed(error.message)),
      onSuccess: (look) => Effect.sync(() => wait.looked(now(), look))
    })

    const session = Effect.gen(function*() {
      // subscribing to a topic that is not there would fail, and create it where brokers do that
      let { partitions: knownPartitions } = yield* untilSettled(looked)
      const workers = yield* FiberSet.make<void, unknown>()
      const fork = yield* FiberSet.runtime(workers)<R>()
      const chores = yield* FiberSet.makeRuntime<never, unknown, unknown>()
      const ended = yield* Deferred.make<never, KafkaGroup.ConsumerCrashed | KafkaUnavailable | E>()
      const places = yield* Effect.makeSemaphore(options.concurrency)
      const { consumer, kafka, lookForPartitions } = yield* KafkaGroup.member(options)
      let assignment: Assignment = { partitions: [], cells: new Map(), topicId: "" }
      /** False when nothing is to be begun or paused: it stops, has failed, or has not begun. */
      let open = false
      let failed = false

      /** Who works on the last batch of a partition, also for an assignment that is over. */
      const working = new Map<number, Fiber.RuntimeFiber<void, unknown>>()
      /** The last batch that kafkajs gave: by way of it, a commit is one of its generation, and is never repeated later. */
      let newest: EachBatchPayload | undefined

      /** They ring when there is something to commit, and when it is much. */
      const [begun, enough] = [Bell.make(), Bell.make()]
      const behind = () =>
        Array.from(assignment.cells.values()).reduce((sum, { progress }) => sum + PartitionProgress.behind(progress), 0n)

      const commit = Effect.suspend(() => {
        const { cells, topicId } = assignment
        const offsets = Array.from(cells.values()).flatMap(({ partition, progress, skipped }) => {
          const offset = PartitionProgress.uncommitted(progress)
          const metadata = KafkaPlaces.write({ topicId, skipped })
          return offset === undefined ? [] : [{ partition, offset: String(offset), metadata }]
        })
        if (offsets.length === 0) return Effect.void
        return attempt(() =>
          newest === undefined
            ? consumer.commitOffsets(offsets.map((offset) => ({ topic: options.topic, ...offset })))
            : newest.commitOffsetsIfNecessary({ topics: [{ topic: options.topic, partitions: offsets }] })
        ).pipe(
          Effect.map(() => {
            for (const { offset, partition } of offsets) {
              const cell = cells.get(partition)!
              cell.progress = PartitionProgress.committed(cell.progress, BigInt(offset))
            }
          }),
          // the next one has them too, or whoever reads the records again
          Effect.catchAll((error) => Effect.map(Effect.logDebug("offsets are not committed yet", error), begun.ring))
        )
      })
      yield* begun.rung.pipe(
        Effect.zipRight(Effect.raceFirst(Effect.sleep(commits.pause), enough.rung)),
        Effect.zipRight(commit),
        Effect.forever,
        Effect.forkScoped
      )

      const change = (cell: Cell, progress: Progress<EachBatchPayload>) => {
        cell.progress = progress
        if (PartitionProgress.uncommitted(progress) === undefined) return
        begun.ring()
        if (enough.awaited() && behind() >= commits.records) enough.ring()
      }
      const pause = (partitions: ReadonlyArray<number>) => {
        if (open && partitions.length > 0) consumer.pause([{ topic: options.topic, partitions: [...partitions] }])
      }

      /** Nothing more is begun of what was assigned. */
      const take = () => {
        for (const cell of assignment.cells.values()) cell.progress = PartitionProgress.taken(cell.progress)
        pause(assignment.partitions)
      }
      const interruptAll = Effect.suspend(() => Fiber.interruptAll([...working.values()]))
      const fail = (cause: Cause.Cause<KafkaGroup.ConsumerCrashed | KafkaUnavailable | E>) => {
        take()
        open = false
        failed = true
        Deferred.unsafeDone(ended, Exit.failCause(cause))
      }

      const begin = (cell: Cell, { content }: Given<EachBatchPayload>) => {
        const { partition } = cell
        const before = working.get(partition)
        const work = Effect.suspend(() =>
          cell.progress.left ? Effect.void : handle({
            topic: options.topic,
            partition,
            records: content.batch.messages,
            mayContinue: () => !cell.progress.left,
            resolve: (offset) => change(cell, PartitionProgress.resolved(cell.progress, BigInt(offset), now()))
          })
        )
        working.set(
          partition,
          fork(
            // a batch waits for the last one of its partition, also for one that is being left
            (before === undefined ? Effect.void : Fiber.await(before)).pipe(
              Effect.zipRight(behind() < commits.limit ? Effect.void : caughtUp),
              Effect.zipRight(places.withPermits(1)(work)),
              Effect.onExit((exit) => Effect.sync(() => end(cell, exit)))
            )
          )
        )
      }
      const caughtUp = Effect.suspend(() => Effect.as(Effect.sleep("20 millis"), behind() < commits.limit)).pipe(
        Effect.repeat({ until: (done) => done })
      )

      const end = (cell: Cell, exit: Exit.Exit<void, E>) => {
        if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) fail(exit.cause)
        change(cell, PartitionProgress.ended(cell.progress, Exit.isSuccess(exit), now()))
        const next = cell.progress.inHand
        if (next === undefined) return
        begin(cell, next)
        consumer.resume([{ topic: options.topic, partitions: [cell.partition] }])
      }

      const eachBatch = (payload: EachBatchPayload) => {
        const { messages, partition } = payload.batch
        const cell = assignment.cells.get(partition)
        newest = payload
        if (cell === undefined || !PartitionProgress.hasRoom(cell.progress)) return Promise.resolve()
        const last = messages.at(-1)!.offset
        const batch = { last: BigInt(last), end: BigInt(last) + 1n, content: payload }
        const isBusy = cell.progress.inHand !== undefined
        cell.progress = PartitionProgress.given(cell.progress, batch, now())
        // the next fetch begins there
        payload.resolveOffset(last)
        // one waits, and the other partitions are fetched meanwhile
        if (isBusy) pause([partition])
        else begin(cell, batch)
        return Promise.resolve()
      }

      /** Finds the position of each partition, and begins to read there. */
      const start = (given: Assignment) =>
        Effect.gen(function*() {
          const { ends, topicId } = yield* looked
          const committed = yield* topic.committed(given.partitions)
          if (given !== assignment || !open) return
          const skips: Array<Skip> = []
          for (const partition of given.partitions) {
            const known = committed.get(partition)
            const end = ends.get(partition)
            if (end === undefined) return yield* new KafkaUnavailable({ cause: `partition ${partition} has no leader` })
            const { at, committed: from, skip } = KafkaPlaces.start(partition, known, end, topicId)
            const gone = skip?.cause === "recreated" && lastSeen?.topicId === known?.note.topicId
              ? lastSeen?.unread.get(partition)
              : undefined
            if (skip !== undefined) skips.push({ ...skip, records: skip.records ?? gone })
            const skipped = (known?.note.skipped ?? 0n) + (skips.at(-1)?.partition === partition ? skips.at(-1)!.records ?? 0n : 0n)
            given.cells.set(partition, {
              partition,
              skipped,
              progress: PartitionProgress.assigned<EachBatchPayload>(at, from, now())
            })
            consumer.seek({ topic: options.topic, partition, offset: String(at) })
          }
          given.topicId = topicId
          wait.joined(given.cells)
          consumer.resume([{ topic: options.topic, partitions: [...given.partitions] }])
          begun.ring()
          yield* Effect.forEach(skips, (skip) => options.onSkip?.(skip) ?? Effect.void, { discard: true })
          yield* options.onJoin ?? Effect.void
        }).pipe(
          Effect.tapError((error) => Effect.sync(() => wait.failed(error.message))),
          Effect.retry({ schedule: Schedule.spaced("500 millis"), while: () => given === assignment && open }),
          Effect.ignore
        )

      // also of batches that hold nothing but control records, which never come to the handler
      consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { lastOffset, partition } }) => {
        const cell = assignment.cells.get(partition)
        if (cell !== undefined) change(cell, PartitionProgress.passed(cell.progress, BigInt(lastOffset) + 1n, now()))
      })
      consumer.on(consumer.events.FETCH, () => wait.fetched(now()))
      // what is in hand is somebody else's from now on
      consumer.on(consumer.events.REBALANCING, () => {
        take()
        wait.left(now())
        fork(commit)
        chores(interruptAll)
      })
      consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberAssignment } }) => {
        if (failed || stopping) return
        take()
        chores(interruptAll)
        open = true
        assignment = { partitions: memberAssignment[options.topic] ?? [], cells: new Map(), topicId: "" }
        pause(assignment.partitions)
        chores(start(assignment))
      })
      consumer.on(consumer.events.CRASH, ({ payload }) => {
        open = false
        wait.left(now())
        fail(Cause.fail(new KafkaGroup.ConsumerCrashed({ cause: payload.error })))
      })

      const look = Effect.gen(function*() {
        const { partitions, topicId } = yield* looked
        const { cells, topicId: assigned } = assignment
        if (assigned !== "" && topicId !== assigned) return fail(Cause.fail(KafkaGroup.topicChanged(options.topic)))
        if (topicId !== "") {
          lastSeen = { topicId, unread: new Map(Array.from(cells.keys(), (_) => [_, wait.unread(_) ?? 0n])) }
        }
        if (partitions > knownPartitions) {
          yield* attempt(lookForPartitions)
          knownPartitions = partitions
        }
      }).pipe(Effect.catchAll((error) => Effect.logDebug("a look at the topic failed", error)))
      yield* Effect.sleep(lookEvery).pipe(Effect.zipRight(look), Effect.forever, Effect.forkScoped)

      let stopping = false
      yield* Effect.addFinalizer(() => {
        stopping = true
        take()
        return FiberSet.awaitEmpty(workers).pipe(
          Effect.interruptible,
          // a member no more, or a bug: nobody waits for what is in hand
          Effect.timeoutOption(failed ? "100 millis" : options.drainTimeout),
          Effect.zipRight(FiberSet.clear(workers)),
          Effect.zipRight(commit.pipe(Effect.interruptible, Effect.timeoutOption("2 seconds")))
        )
      })

      yield* connecting(kafka, () => consumer.connect())
      // a new group begins at the earliest record
      yield* connecting(kafka, () => consumer.subscribe({ topics: [options.topic], fromBeginning: true }))
      yield* connecting(kafka, () =>
        consumer.run({
          partitionsConsumedConcurrently: options.concurrency,
          autoCommit: false,
          eachBatchAutoResolve: false,
          eachBatch
        })
      )
      return yield* Deferred.await(ended)
    }).pipe(Effect.scoped)

    return yield* session.pipe(
      Effect.retry({
        while: KafkaGroup.isMoving,
        schedule: Schedule.intersect(Schedule.spaced("100 millis"), Schedule.recurs(50))
      }),
      Effect.retry({
        while: (error) => KafkaGroup.hasLostItsPlace(error, options.onStanding !== undefined),
        schedule: Schedule.spaced("500 millis")
      })
    )
  }).pipe(Effect.scoped)
