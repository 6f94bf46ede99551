import { Cause, Effect, Exit, Fiber } from "effect"
import type { EachBatchPayload } from "kafkajs"
import type { Batch } from "./KafkaBatch.js"
import type { Given, Progress } from "./PartitionProgress.js"
import * as PartitionProgress from "./PartitionProgress.js"

/** A partition of this consumer, until the next rebalance. */
export interface Cell {
  readonly partition: number
  progress: Progress<EachBatchPayload>
  /** Number of records that the group never read, also before this consumer. */
  readonly skipped: bigint
}

/** The partitions that the group has assigned, from one join to the next. */
export interface Assignment {
  readonly partitions: ReadonlyArray<number>
  /** The partitions whose positions are known. */
  readonly cells: Map<number, Cell>
  topicId: string
}

export interface WorkOptions<E, R> {
  readonly topic: string
  readonly handle: (batch: Batch) => Effect.Effect<void, E, R>
  /** Limits the number of batches that are worked on at the same time. */
  readonly permits: Effect.Semaphore
  readonly fork: (work: Effect.Effect<void, E, R>) => Fiber.RuntimeFiber<void, E>
  readonly now: () => number
  readonly pause: (partitions: ReadonlyArray<number>) => void
  readonly resume: (partitions: ReadonlyArray<number>) => void
  /** Called when more records are done. */
  readonly onDone: () => void
  /** Called when the handler has failed. It has to give up the assignment. */
  readonly onFailure: (cause: Cause.Cause<E>) => void
  /** No batch begins while so many records are done and not committed. */
  readonly limit: bigint
}

/** Gives the handler the batches of the last assignment, one of each partition at a time. */
export const make = <E, R>(options: WorkOptions<E, R>) => {
  const { now, pause, resume } = options
  let assignment: Assignment = { partitions: [], cells: new Map(), topicId: "" }
  /** The fiber of the last batch of a partition, also of an earlier assignment. */
  const working = new Map<number, Fiber.RuntimeFiber<void, E>>()

  /** Records that are done and not committed. */
  const behind = () =>
    Array.from(assignment.cells.values()).reduce((sum, { progress }) => sum + PartitionProgress.behind(progress), 0n)

  const change = (cell: Cell, progress: Progress<EachBatchPayload>) => {
    cell.progress = progress
    if (PartitionProgress.uncommitted(progress) !== undefined) options.onDone()
  }

  /** Gives up the assignment: no batch of it begins any more. */
  const take = () => {
    for (const cell of assignment.cells.values()) cell.progress = PartitionProgress.taken(cell.progress)
    pause(assignment.partitions)
  }

  const untilCommitted = Effect.suspend(() => Effect.as(Effect.sleep("20 millis"), behind() < options.limit)).pipe(
    Effect.repeat({ until: (done) => done })
  )

  const begin = (cell: Cell, { content }: Given<EachBatchPayload>) => {
    const { partition } = cell
    const before = working.get(partition)
    const work = Effect.suspend(() =>
      cell.progress.left ? Effect.void : options.handle({
        topic: options.topic,
        partition,
        records: content.batch.messages,
        mayContinue: () => !cell.progress.left,
        resolve: (offset) => change(cell, PartitionProgress.resolved(cell.progress, BigInt(offset), now()))
      })
    )
    working.set(
      partition,
      options.fork(
        // a batch waits for the last batch of its partition, also for one of an earlier assignment
        (before === undefined ? Effect.void : Fiber.await(before)).pipe(
          Effect.zipRight(behind() < options.limit ? Effect.void : untilCommitted),
          Effect.zipRight(options.permits.withPermits(1)(work)),
          Effect.onExit((exit) => Effect.sync(() => end(cell, exit)))
        )
      )
    )
  }

  const end = (cell: Cell, exit: Exit.Exit<void, E>) => {
    if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) options.onFailure(exit.cause)
    change(cell, PartitionProgress.ended(cell.progress, Exit.isSuccess(exit), now()))
    const next = cell.progress.inHand
    if (next === undefined) return
    begin(cell, next)
    resume([cell.partition])
  }

  return {
    assignment: () => assignment,
    behind,
    take,
    interruptAll: Effect.suspend(() => Fiber.interruptAll(working.values())),
    /** The group assigns these partitions. They stay paused until their positions are known. */
    assign: (partitions: ReadonlyArray<number>): Assignment => {
      take()
      assignment = { partitions, cells: new Map(), topicId: "" }
      pause(partitions)
      return assignment
    },
    /** Takes a batch from kafkajs. */
    give: (payload: EachBatchPayload) => {
      const { messages, partition } = payload.batch
      const cell = assignment.cells.get(partition)
      if (cell === undefined || !PartitionProgress.hasRoom(cell.progress)) return
      const last = messages.at(-1)!.offset
      const batch = { last: BigInt(last), end: BigInt(last) + 1n, content: payload }
      const isBusy = cell.progress.inHand !== undefined
      cell.progress = PartitionProgress.given(cell.progress, batch, now())
      // the next fetch begins after the batch
      payload.resolveOffset(last)
      // the batch waits, and the fetches go on with the other partitions
      if (isBusy) pause([partition])
      else begin(cell, batch)
    },
    /** kafkajs has fetched all offsets up to and including `offset`, also control records, which are in no batch. */
    pass: (partition: number, offset: string) => {
      const cell = assignment.cells.get(partition)
      if (cell !== undefined) change(cell, PartitionProgress.passed(cell.progress, BigInt(offset) + 1n, now()))
    }
  } as const
}
