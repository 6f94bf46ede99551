import type { Schedule } from "effect"
import { Duration, Effect, Metric } from "effect"
import * as HealthLog from "./HealthLog.js"
import type { Problem, Reason } from "./Problem.js"
import { problemOf } from "./Problem.js"
import { retry } from "./Retry.js"

/** What a process knows of a part before the part reports. */
export interface PartOptions {
  /** The roles that need this part: `/readyz/<role>` lists it. */
  readonly roles: ReadonlyArray<string>
  /** False for a part that is shown and does not affect readiness. Default: true. */
  readonly required?: boolean
  /** The reasons for which the part may wait: their series exist from the start. */
  readonly reasons?: ReadonlyArray<Reason>
  /** A check that each request for the state runs, at most once a second, and `watch` every 5 seconds. */
  readonly probe?: Effect.Effect<unknown, Error>
}

/**
 * State of a part. It is `starting` before its work has succeeded once, `waiting` while some of its work makes no progress, and
 * `stopped` after its end.
 */
export type State = "starting" | "working" | "waiting" | "stopped"

/** A piece of work in hand. Times are milliseconds of the monotonic clock. */
export interface Work {
  /** What the work does, for operators. */
  doing: string
  /** What it waits for when it stands still. */
  for: Reason
  /** Time of the last progress. */
  since: number
  /** Why the last attempt failed. */
  problem: Problem | undefined
  /** Time of the first failed attempt since the last progress. */
  failedAt: number
}

/** Failed work counts as waiting after this: one broken connection does not. */
const afterFailure = Duration.toMillis("1 second")
/** The same for work without a failure and without progress: half of the 10 seconds in which a stall has to be visible (P12). */
const withoutProgress = Duration.toMillis("5 seconds")

/** Reasons that may follow from a failure elsewhere in the part. */
const consequences: ReadonlySet<Reason> = new Set(["no_progress", "group"])

const stalled = Metric.gauge("payments_stalled", {
  description: "Pieces of work that make no progress now, by part and reason"
})
const readyGauge = Metric.gauge("payments_ready", {
  description: "1 while the part works, else 0"
})

/** Problems that last until the work behind them succeeds. */
interface Lasting {
  problem: Problem
  readonly since: number
  until: number
}

/** A wait of a part at one moment. */
export interface Wait extends Problem {
  readonly since: number
  readonly doing: string
  /** Nothing has failed: the work only stands still, perhaps because of a failure elsewhere in the part. */
  readonly quiet: boolean
}

/** The work of a part and the state that follows from it. The part itself reports; everything else only reads. */
export interface Part {
  readonly name: string
  /** The work has succeeded. This ends `starting` and a failure of the whole part. */
  readonly working: () => void
  /** The part has failed as a whole. The problem lasts until `working`. */
  readonly failed: (problem: Problem) => void
  /** The part has ended. */
  readonly stopped: () => void
  /** True when the work has succeeded once. */
  readonly hasWorked: () => boolean
  /** Begins work, which counts as waiting for `reason` when it makes no progress. */
  readonly begin: (reason: Reason, doing: string) => Work
  /** The work makes progress, or goes on with something else. Its problem is over. */
  readonly moved: (work: Work, reason: Reason, doing: string) => void
  /** An attempt of the work has failed. The work goes on. */
  readonly stuck: (work: Work, problem: Problem) => void
  /** The work has ended, or there is nothing to do. */
  readonly end: (work: Work) => void
  /** Nothing of `key` works. The problem lasts until `reached`, or for `millis` after the last call. */
  readonly postponed: (key: string, problem: Problem, millis?: number) => void
  /** `key` works: its problem is over. */
  readonly reached: (key: string) => void
  /** Runs an effect that its caller repeats within seconds, also after a failure. A failure lasts until a later success. */
  readonly query: <A, E extends { readonly message: string }, R>(
    reason: Reason,
    doing: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
  /** Repeats an attempt until it succeeds. Fails as the last attempt did when `mayContinue` returns false. */
  readonly step: (
    reason: Reason,
    doing: string,
    mayContinue: () => boolean,
    pauses: Schedule.Schedule<unknown>
  ) => <A, E extends { readonly message: string }, R>(attempt: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** The mutable state behind a part. */
export class Keeper implements Part {
  started = false
  ended = false
  /** When something had failed last. */
  failedLast = -Infinity
  /** The last state, and since when (milliseconds of the epoch). */
  state: State = "starting"
  /** In the order in which the work began. */
  readonly inHand = new Set<Work>()
  readonly lasting = new Map<string, Lasting>()
  readonly gauges = new Map<Reason, Metric.Metric.Gauge<number>>()
  readonly ready: Metric.Metric.Gauge<number>

  constructor(
    readonly name: string,
    readonly options: PartOptions,
    /** Milliseconds of the monotonic clock. */
    readonly now: () => number,
    public since: number
  ) {
    this.ready = readyGauge.pipe(Metric.tagged("part", name))
    this.ready.unsafeUpdate(0, [])
    for (const reason of options.reasons ?? []) this.gauge(reason).unsafeUpdate(0, [])
  }

  gauge(reason: Reason) {
    const known = this.gauges.get(reason)
    if (known !== undefined) return known
    const gauge = stalled.pipe(Metric.tagged("part", this.name), Metric.tagged("reason", reason))
    this.gauges.set(reason, gauge)
    return gauge
  }

  readonly working = () => {
    this.started = true
    this.ended = false
    if (this.lasting.size > 0) this.lasting.delete("")
  }
  readonly failed = (problem: Problem) => this.postponed("", problem)
  readonly stopped = () => void (this.ended = true)
  readonly hasWorked = () => this.started

  readonly begin = (reason: Reason, doing: string): Work => {
    const work: Work = { doing, for: reason, since: this.now(), problem: undefined, failedAt: 0 }
    this.inHand.add(work)
    return work
  }
  readonly moved = (work: Work, reason: Reason, doing: string) => {
    work.doing = doing
    work.for = reason
    work.since = this.now()
    work.problem = undefined
    this.inHand.add(work)
  }
  readonly stuck = (work: Work, problem: Problem) => {
    if (!this.inHand.has(work)) this.moved(work, work.for, work.doing)
    if (work.problem === undefined) work.failedAt = this.now()
    work.problem = problem
  }
  readonly end = (work: Work) => void this.inHand.delete(work)

  readonly postponed = (key: string, problem: Problem, millis = Infinity) => {
    const until = this.now() + millis
    const known = this.lasting.get(key)
    if (known === undefined) this.lasting.set(key, { problem, since: this.now(), until })
    else Object.assign(known, { problem, until })
  }
  readonly reached = (key: string) => {
    if (this.lasting.size > 0) this.lasting.delete(key)
  }

  readonly query = <A, E extends { readonly message: string }, R>(
    reason: Reason,
    doing: string,
    effect: Effect.Effect<A, E, R>
  ) =>
    Effect.suspend(() => {
      const work = this.begin(reason, doing)
      return Effect.ensuring(effect, Effect.sync(() => this.end(work)))
    }).pipe(
      Effect.tapBoth({
        onFailure: (error) => Effect.sync(() => this.postponed(doing, problemOf(error, reason))),
        onSuccess: () => Effect.sync(() => this.reached(doing))
      })
    )

  readonly step =
    (reason: Reason, doing: string, mayContinue: () => boolean, pauses: Schedule.Schedule<unknown>) =>
    <A, E extends { readonly message: string }, R>(attempt: Effect.Effect<A, E, R>) =>
      Effect.suspend(() => {
        const work = this.begin(reason, doing)
        return attempt.pipe(
          Effect.tapError((error) => Effect.sync(() => this.stuck(work, problemOf(error, reason)))),
          retry<E>(pauses, mayContinue),
          Effect.ensuring(Effect.sync(() => this.end(work)))
        )
      })

  /** The waits at this moment. Quiet ones count only when nothing has failed: a failure explains them. */
  waits(at: number): ReadonlyArray<Wait> {
    const all: Array<Wait> = []
    for (const [key, { problem, since, until }] of this.lasting) {
      if (until < at) this.lasting.delete(key)
      else all.push({ ...problem, since, doing: key, quiet: consequences.has(problem.reason) })
    }
    for (const { doing, failedAt, for: reason, problem, since } of this.inHand) {
      if (problem !== undefined) {
        if (at - failedAt >= afterFailure) all.push({ ...problem, since, doing, quiet: false })
      } else if (at - since >= withoutProgress) {
        all.push({ reason, why: `${doing}: no answer for ${HealthLog.time(at - since)}`, since, doing, quiet: true })
      }
    }
    if (all.some(({ quiet }) => !quiet)) this.failedLast = at
    // work that stood still because of a failure gets its time after the failure is over
    const counted = at - this.failedLast < withoutProgress ? all.filter(({ quiet }) => !quiet) : all
    return counted.sort((a, b) => a.since - b.since)
  }

  /** The state that follows from the waits. `epoch` is `at` as milliseconds of the epoch. */
  settle(waits: ReadonlyArray<Wait>, at: number, epoch: number) {
    const [first] = waits
    const state = this.ended ? "stopped" : first !== undefined ? "waiting" : this.started ? "working" : "starting"
    if (state === this.state) return
    this.state = state
    this.since = state === "waiting" ? epoch - (at - first!.since) : epoch
  }

  /** Sets the gauges. */
  measure(waits: ReadonlyArray<Wait>) {
    this.ready.unsafeUpdate(this.state === "working" ? 1 : 0, [])
    const counts = new Map<Reason, number>(Array.from(this.gauges.keys(), (reason) => [reason, 0]))
    for (const { reason } of waits) counts.set(reason, (counts.get(reason) ?? 0) + 1)
    for (const [reason, count] of counts) this.gauge(reason).unsafeUpdate(count, [])
  }
}
