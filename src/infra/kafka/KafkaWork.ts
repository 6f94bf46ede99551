import { Cause, Effect, Exit, Fiber } from "effect"
import type { EachBatchPayload } from "kafkajs"
import type { Batch } from "./KafkaBatch.js"
import type { Given, Progress } from "./PartitionProgress.js"
import * as PartitionProgress from "./PartitionProgress.js"

/** A partition that the group has given to this consumer, until the group is shared anew. */
export interface Cell {
  readonly partition: number
  progress: Progress<EachBatchPayload>
  /** How many records the group has never read, with those before this consumer. */
  readonly skipped: bigint
}

/** What the group has given to this consumer, from one join to the next. */
export interface Assignment {
  readonly partitions: ReadonlyArray<number>
  /** Of those whose positions are known. */
  readonly cells: Map<number, Cell>
  topicId: string
}

export interface WorkOptions<E, R> {
  readonly topic: string
  readonly handle: (batch: Batch) => Effect.Effect<void, E, R>
  /** Lets a batch be worked on: so many at the same time as there are places. */
  readonly places: Effect.Semaphore
  readonly fork: (work: Effect.Effect<void, E, R>) => Fiber.RuntimeFiber<void, E>
  readonly now: () => number
  readonly pause: (partitions: ReadonlyArray<number>) => void
  readonly resume: (partitions: ReadonlyArray<number>) => void
  /** Told when more may be committed. */
  readonly onDone: () => void
  /** Told when the handler has failed. */
  readonly onFailure: (cause: Cause.Cause<E>) => void
  /** No batch is begun while so many records are done with and not committed. */
  readonly limit: bigint
}

/** Lets the handler work on the batches of the partitions that were assigned last, one of each partition at a time. */
export const make = <E, R>(options: WorkOptions<E, R>) => {
  const { now, pause, resume } = options
  let assignment: Assignment = { partitions: [], cells: new Map(), topicId: "" }
  /** Who works on the last batch of a partition, also for an assignment that is over. */
  const working = new Map<number, Fiber.RuntimeFiber<void, E>>()

  /** Records that are done with and not committed. */
  const behind = () =>
    Array.from(assignment.cells.values()).reduce((sum, { progress }) => sum + PartitionProgress.behind(progress), 0n)

  const change = (cell: Cell, progress: Progress<EachBatchPayload>) => {
    cell.progress = progress
    if (PartitionProgress.uncommitted(progress) !== undefined) options.onDone()
  }

  /** Nothing more is begun of what was assigned. */
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
        // a batch waits for the last one of its partition, also for one that is being left
        (before === undefined ? Effect.void : Fiber.await(before)).pipe(
          Effect.zipRight(behind() < options.limit ? Effect.void : untilCommitted),
          Effect.zipRight(options.places.withPermits(1)(work)),
          Effect.onExit((exit) => Effect.sync(() => end(cell, exit)))
        )
      )
    )
  }

  const end = (cell: Cell, exit: Exit.Exit<void, E>) => {
    if (Exit.isFailure(exit) && !Cause.isInterruptedOnly(exit.cause)) {
      take()
      options.onFailure(exit.cause)
    }
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
    /** The group gives these partitions. Nothing is fetched of them before their positions are known. */
    assign: (partitions: ReadonlyArray<number>): Assignment => {
      take()
      assignment = { partitions, cells: new Map(), topicId: "" }
      pause(partitions)
      return assignment
    },
    /** A batch was fetched. */
    give: (payload: EachBatchPayload) => {
      const { messages, partition } = payload.batch
      const cell = assignment.cells.get(partition)
      if (cell === undefined || !PartitionProgress.hasRoom(cell.progress)) return
      const last = messages.at(-1)!.offset
      const batch = { last: BigInt(last), end: BigInt(last) + 1n, content: payload }
      const isBusy = cell.progress.inHand !== undefined
      cell.progress = PartitionProgress.given(cell.progress, batch, now())
      // the next fetch begins there
      payload.resolveOffset(last)
      // one waits, and the other partitions are fetched meanwhile
      if (isBusy) pause([partition])
      else begin(cell, batch)
    },
    /** Everything up to and with `offset` was fetched, also control records, which are in no batch. */
    pass: (partition: number, offset: string) => {
      const cell = assignment.cells.get(partition)
      if (cell !== undefined) change(cell, PartitionProgress.passed(cell.progress, BigInt(offset) + 1n, now()))
    }
  } as const
}
