import { Clock, Effect, Fiber, FiberSet, Metric } from "effect"
import type { Duration } from "effect"
import * as CrashPoint from "../../drills/CrashPoint.js"
import type { Part, Work } from "../../infra/runtime/Health.js"
import * as Signal from "../../infra/runtime/Signal.js"
import * as Drain from "../Drain.js"
import * as ScanCursor from "../ScanCursor.js"
import type { Look, OwnedShard } from "./ShardOwners.js"
import { ShardOwners } from "./ShardOwners.js"
import type { ShardOptions } from "./ShardTakeover.js"
import * as ShardWorker from "./ShardWorker.js"

const ownedGauge = Metric.gauge("payments_shards_owned", {
  description: "Shards of orders that this process relays"
})
const unavailableGauge = Metric.gauge("payments_shards_unavailable", {
  description: "Shards of this process that cannot publish now: a server is away, or an operator has to decide"
})

/** The metrics of exactly-once delivery. */
export const metrics = [ownedGauge, unavailableGauge]

/** The worker of a shard that this process owns. */
export interface RunningWorker {
  readonly owned: OwnedShard
  /** Notified when events of the shard may be due. */
  readonly due: Signal.Signal
  /** Where claims of the shard begin. */
  readonly cursor: ScanCursor.ScanCursor
  readonly work: Work
  readonly stopping: () => boolean
  /** Whatever the worker waits for, it looks again: its shard may be lost. */
  readonly recheck: () => void
  /** The worker finishes the batch in hand and releases its shard, however long that takes. */
  readonly stop: () => void
}

/** The workers of this process, one for each shard that it owns, in the order in which they started. */
export const make = Effect.fnUntraced(function*(
  options: ShardOptions & { readonly drainTimeout: Duration.DurationInput },
  part: Part
) {
  const owners = yield* ShardOwners
  const running = new Set<RunningWorker>()
  const fibers = yield* FiberSet.make<void>()

  const measure = Effect.sync(() => {
    ownedGauge.unsafeUpdate(running.size, [])
    unavailableGauge.unsafeUpdate(Array.from(running).filter(({ work }) => work.problem !== undefined).length, [])
  })

  const newWorker = (
    owned: OwnedShard,
    cursor: ScanCursor.ScanCursor
  ): RunningWorker & { readonly endPause: Signal.Signal } => {
    const [due, endPause] = [Signal.make(), Signal.make()]
    let stopping = false
    const recheck = () => {
      due.notify()
      endPause.notify()
    }
    return {
      owned,
      due,
      cursor,
      endPause,
      work: part.begin("no_progress", `taking over shard ${owned.shard}`),
      stopping: () => stopping,
      recheck,
      stop: () => {
        stopping = true
        recheck()
      }
    }
  }

  /** Starts the worker of a shard that this process has just acquired. Interrupted, it drains. */
  const start = Effect.fnUntraced(function*(owned: OwnedShard) {
    const worker = newWorker(owned, yield* ScanCursor.make)
    const { cursor, due, endPause, stop, stopping, work } = worker
    running.add(worker)
    yield* measure
    const serve = ShardWorker.serve(owned, {
      ...options,
      cursor,
      due,
      endPause,
      stopping,
      onProgress: (doing) => {
        if (doing === undefined) part.end(work)
        else part.moved(work, "no_progress", doing)
      },
      onOutage: (problem) => Effect.zipRight(Effect.sync(() => part.stuck(work, problem)), measure)
    }).pipe(
      Effect.catchTag("ShardLost", () => Effect.logInfo("another relay owns this shard now")),
      Effect.annotateLogs({ shard: owned.shard })
    )
    const onStop = Effect.suspend(() => {
      stop()
      return CrashPoint.pass("relay-stopping")
    })
    // also after a defect, and while a call of a broker goes on after the drain
    const end = Effect.zipRight(
      // another relay need not wait for the lease. As long as the worker counts, this one does not acquire the shard again
      owners.letGo(owned),
      Effect.suspend(() => {
        part.end(work)
        running.delete(worker)
        return measure
      })
    )
    yield* FiberSet.run(fibers, Effect.ensuring(Drain.finish(serve, { onStop, within: options.drainTimeout }), end))
  })

  return {
    start,
    all: (): ReadonlyArray<RunningWorker> => [...running],
    /**
     * Asks the database whether the shards of these workers have due events, with the looks of their cursors, and notifies those
     * that have some.
     */
    lookFor: <A extends { readonly due: ReadonlyArray<string> }, E, R>(
      workers: ReadonlyArray<RunningWorker>,
      ask: (looks: ReadonlyArray<Look>) => Effect.Effect<A, E, R>
    ) =>
      Effect.gen(function*() {
        const since = yield* Clock.currentTimeNanos
        const looks = workers.map(({ cursor, owned }) => ({ owned, from: cursor.begin() }))
        const answer = yield* Effect.tapError(ask(looks), () =>
          Effect.sync(() => workers.forEach(({ cursor }, i) => cursor.failed(looks[i]!.from))))
        workers.forEach(({ cursor, due, owned }, i) => {
          const { from } = looks[i]!
          cursor.found(from, since, undefined)
          if (!answer.due.includes(owned.token)) {
            return
          }
          // they may lie below the cursor
          if (from === 0n) {
            cursor.rewind()
          }
          due.notify()
        })
        return answer
      }),
    /** Never succeeds; fails as the first worker that fails. */
    failure: FiberSet.join(fibers),
    /** Stops all workers, and waits until they have drained. */
    stopAll: Effect.suspend(() => Fiber.interruptAll(fibers))
  } as const
})

export type ShardWorkers = Effect.Effect.Success<ReturnType<typeof make>>
